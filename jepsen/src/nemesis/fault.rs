//! The kinds of faults, and the groups they are ordered by.

use std::fmt;

use anyhow::bail;

/// A kind of fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Fault {
    /// `kill -9` of the voter that leads; started again a few seconds later, as after every kill.
    KillLeader,
    /// `kill -9` of a voter that does not lead.
    KillFollower,
    /// `kill -9` of a worker.
    KillWorker,
    /// `kill -9` of a majority of the voters.
    KillQuorum,
    /// `kill -9` of every node.
    KillAll,
    /// SIGSTOP of any node.
    Pause,
    /// SIGSTOP of the voter that leads.
    PauseLeader,
    /// SIGSTOP of a worker for longer than its session may be silent.
    PauseWorker,
    /// A node gets a tenth of the processor.
    Starve,
    /// The voters fall into two halves.
    Halves,
    /// The leader is cut off from everybody.
    IsolateLeader,
    /// Two halves that only one voter between them can see.
    Bridge,
    /// The leader hears everybody and nobody hears it, or the other way round.
    OneWay,
    /// Every voter sees a majority, no two the same.
    Ring,
    /// A node's link comes and goes.
    Flapping,
    /// Frames are lost.
    Loss,
    /// Frames come late.
    Delay,
    /// Frames come twice.
    Duplicate,
    /// Frames overtake each other.
    Reorder,
    /// Frames come with a flipped bit.
    Corrupt,
    /// Links are slow.
    Rate,
    /// Longer packets than a limit vanish.
    Mtu,
    /// A voter's disk is full.
    DiskFull,
    /// A voter's syncs take long.
    SlowSync,
    /// A voter's syncs fail.
    SyncError,
    /// A voter is started again with monotonic and boot clocks of another base, and later again with the machine's.
    ClockBase,
    /// A voter is started again with clocks that run too fast or too slow.
    ClockRate,
    /// A voter's wall clock jumps.
    ClockJump,
    /// A voter's wall clock jumps to and fro.
    ClockStrobe,
    /// A worker is drained, with a second or so for what it holds, and works again later.
    Drain,
    /// A voter loses its disk and is started again with an empty one.
    Wipe,
}

/// Every fault with its name, its group, and what it does in a few words.
pub const FAULTS: &[(Fault, &str, &str, &str)] = &[
    (
        Fault::KillLeader,
        "kill-leader",
        "process",
        "kill -9 of the leader",
    ),
    (
        Fault::KillFollower,
        "kill-follower",
        "process",
        "kill -9 of another voter",
    ),
    (
        Fault::KillWorker,
        "kill-worker",
        "process",
        "kill -9 of a worker",
    ),
    (
        Fault::KillQuorum,
        "kill-quorum",
        "process",
        "kill -9 of a majority of the voters",
    ),
    (
        Fault::KillAll,
        "kill-all",
        "process",
        "kill -9 of every node",
    ),
    (
        Fault::Pause,
        "pause",
        "process",
        "SIGSTOP of any node for 1 to 30 s",
    ),
    (
        Fault::PauseLeader,
        "pause-leader",
        "process",
        "SIGSTOP of the leader for 1 to 30 s",
    ),
    (
        Fault::PauseWorker,
        "pause-worker",
        "long",
        "SIGSTOP of a worker past its lease",
    ),
    (
        Fault::Starve,
        "starve",
        "process",
        "a node gets a tenth of the processor",
    ),
    (
        Fault::Halves,
        "halves",
        "network",
        "the voters fall into two halves",
    ),
    (
        Fault::IsolateLeader,
        "isolate-leader",
        "network",
        "the leader is cut off",
    ),
    (
        Fault::Bridge,
        "bridge",
        "network",
        "two halves that one voter sees both of",
    ),
    (
        Fault::OneWay,
        "one-way",
        "network",
        "the leader is not heard, or hears nothing",
    ),
    (
        Fault::Ring,
        "ring",
        "network",
        "every voter sees another majority; 5 voters or more",
    ),
    (
        Fault::Flapping,
        "flapping",
        "network",
        "a voter's link comes and goes",
    ),
    (
        Fault::Loss,
        "loss",
        "frames",
        "5 to 30 % of the frames are lost",
    ),
    (
        Fault::Delay,
        "delay",
        "frames",
        "frames come 20 to 150 ms late, with jitter",
    ),
    (
        Fault::Duplicate,
        "duplicate",
        "frames",
        "10 to 40 % of the frames come twice",
    ),
    (
        Fault::Reorder,
        "reorder",
        "frames",
        "10 to 40 % of the frames are overtaken",
    ),
    (
        Fault::Corrupt,
        "corrupt",
        "frames",
        "1 to 10 % of the frames have a flipped bit",
    ),
    (Fault::Rate, "rate", "frames", "links pass 32 to 256 KiB/s"),
    (
        Fault::Mtu,
        "mtu",
        "frames",
        "packets longer than 1,240 to 1,400 bytes vanish, while there are some",
    ),
    (
        Fault::DiskFull,
        "disk-full",
        "disk",
        "a voter's disk is full",
    ),
    (
        Fault::SlowSync,
        "slow-sync",
        "sync",
        "a voter's syncs take 50 to 600 ms; needs strace",
    ),
    (
        Fault::SyncError,
        "sync-error",
        "sync",
        "a voter's syncs fail; needs strace",
    ),
    (
        Fault::ClockBase,
        "clock-base",
        "clock",
        "a voter starts anew, its monotonic clock days ahead",
    ),
    (
        Fault::ClockRate,
        "clock-rate",
        "clock",
        "a voter's clocks run 5 to 30 % fast or slow; needs libfaketime",
    ),
    (
        Fault::ClockJump,
        "clock-jump",
        "clock",
        "a voter's wall clock jumps by up to two days; needs libfaketime",
    ),
    (
        Fault::ClockStrobe,
        "clock-strobe",
        "clock",
        "a voter's wall clock jumps to and fro; needs libfaketime",
    ),
    (
        Fault::Drain,
        "drain",
        "roster",
        "a worker is drained for a while",
    ),
    (
        Fault::Wipe,
        "wipe",
        "replace",
        "a voter starts again with an empty disk",
    ),
];

impl Fault {
    /// Reads names of faults and of groups, parted by commas; `all` is every fault.
    ///
    /// # Errors
    /// Names the one that is neither, and where the names are listed.
    pub fn parse_list(text: &str) -> anyhow::Result<Vec<Self>> {
        let mut faults = Vec::new();
        for name in text
            .split(',')
            .map(str::trim)
            .filter(|name| !name.is_empty())
        {
            let of = |(_, own, group, _): &&(Self, &str, &str, &str)| {
                [*own, *group, "all"].contains(&name)
            };
            let before = faults.len();
            faults.extend(FAULTS.iter().filter(of).map(|(fault, ..)| *fault));
            if faults.len() == before {
                bail!(
                    "`{name}` is no fault and no group of them; `riftmesh-jepsen list` shows both"
                );
            }
        }
        faults.sort_unstable();
        faults.dedup();
        Ok(faults)
    }

    /// Whether a majority of the voters is alive and connected all the time, so that writes have to go on.
    pub fn leaves_majority(self) -> bool {
        !matches!(
            self,
            Self::KillQuorum
                | Self::KillAll
                | Self::Ring
                | Self::Loss
                | Self::Delay
                | Self::Duplicate
                | Self::Reorder
                | Self::Corrupt
                | Self::Rate
                | Self::Mtu
        )
    }

    /// Whether it puts several voters on either side of a cut, so that one vote less may leave a majority on neither.
    pub fn splits(self) -> bool {
        matches!(self, Self::Halves | Self::Bridge)
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let entry = FAULTS.iter().find(|(fault, ..)| fault == self);
        f.pad(entry.map_or("unnamed", |(_, name, ..)| name))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every fault has a name of its own that reads back as itself.
    #[test]
    fn names_round_trip() {
        for (fault, name, ..) in FAULTS {
            assert_eq!(Fault::parse_list(name).unwrap(), [*fault]);
            assert_eq!(fault.to_string(), *name);
        }
        assert_eq!(Fault::parse_list("all").unwrap().len(), FAULTS.len());
        assert_eq!(Fault::parse_list("loss, frames").unwrap().len(), 7);
        let error = Fault::parse_list("kill-leader,quake").unwrap_err();
        assert!(error.to_string().starts_with("`quake` is no fault"));
    }
}

//! Notices when consensus has died: openraft's core can panic or stop on a storage error without telling anyone.

use std::time::Duration;

use openraft::async_runtime::WatchReceiver as _;
use openraft::errors::Fatal;
use tokio::sync::watch;
use tokio::time::{MissedTickBehavior, interval, timeout};

use crate::types::Core;

/// How often the core is asked for a sign of life.
const ASK_EVERY: Duration = Duration::from_secs(1);
/// A core silent for this long is dead.
const SILENCE_MAX: Duration = Duration::from_secs(10);
/// A node whose state is further behind its log does not campaign: as a leader it would serve old answers and be slow
/// to begin (DISTRIBUTED rule 14).
const CAMPAIGN_LAG_MAX: u64 = 2_000;

/// Starts watching `core`; the reason of its death appears in `death`, once. Ends then, or when nobody listens.
pub(crate) fn start(core: Core, death: watch::Sender<Option<String>>) {
    tokio::spawn(async move {
        let mut ask = interval(ASK_EVERY);
        ask.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut campaigns = true;
        loop {
            tokio::select! {
                _ = ask.tick() => {}
                () = death.closed() => return,
            }
            match timeout(SILENCE_MAX, core.with_raft_state(|_| ())).await {
                Ok(Ok(())) => campaigns = keep_laggards_quiet(&core, campaigns),
                // Shut down on purpose: nothing to tell.
                Ok(Err(Fatal::Stopped)) => return,
                Ok(Err(fatal)) => return announce(&death, fatal.to_string()),
                Err(_) => return announce(&death, format!("silent for {SILENCE_MAX:?}")),
            }
        }
    });
}

fn announce(death: &watch::Sender<Option<String>>, reason: String) {
    tracing::error!(reason, "consensus has died on this node");
    death.send_replace(Some(reason));
}

/// Whether the state is close enough behind the log to lead.
pub(crate) fn may_campaign(core: &Core) -> bool {
    let metrics = core.metrics();
    let metrics = metrics.borrow_watched();
    let applied = metrics.last_applied.map_or(0, |id| id.index);
    metrics.last_log_index.unwrap_or(0).saturating_sub(applied) <= CAMPAIGN_LAG_MAX
}

/// Switches campaigning off while the state lags and on again when it has caught up; gives what it is now.
fn keep_laggards_quiet(core: &Core, campaigns: bool) -> bool {
    let may = may_campaign(core);
    if may != campaigns {
        tracing::warn!(
            may,
            "campaigning for leadership depends on how far the state lags"
        );
        core.runtime_config().elect(may);
    }
    may
}

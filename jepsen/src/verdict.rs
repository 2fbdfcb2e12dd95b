//! Truth has three values, and the worst wins.

use std::fmt;
use std::process::ExitCode;

/// What a check says. Ordered from best to worst.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Validity {
    /// The property held, and there was enough to see for that to mean something.
    Valid,
    /// Nothing was proven: the check ran out of budget, could not read its input, or saw nothing happen.
    Unknown,
    /// The property was broken.
    Invalid,
}

impl Validity {
    /// Of the process: 0 valid, 1 invalid, 2 unknown.
    pub fn exit_code(self) -> ExitCode {
        match self {
            Self::Valid => ExitCode::SUCCESS,
            Self::Invalid => ExitCode::from(1),
            Self::Unknown => ExitCode::from(2),
        }
    }
}

impl fmt::Display for Validity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Valid => "valid",
            Self::Unknown => "unknown",
            Self::Invalid => "invalid",
        })
    }
}

/// One check's answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// Which property, in a few words.
    pub property: &'static str,
    /// What the check says.
    pub validity: Validity,
    /// What was counted, or what is wrong and where in the history.
    pub detail: String,
}

impl Finding {
    /// The property held; `detail` says on how much.
    pub fn valid(property: &'static str, detail: impl Into<String>) -> Self {
        Self {
            property,
            validity: Validity::Valid,
            detail: detail.into(),
        }
    }

    /// Nothing was proven, because of `detail`.
    pub fn unknown(property: &'static str, detail: impl Into<String>) -> Self {
        Self {
            property,
            validity: Validity::Unknown,
            detail: detail.into(),
        }
    }

    /// The property was broken at `detail`.
    pub fn invalid(property: &'static str, detail: impl Into<String>) -> Self {
        Self {
            property,
            validity: Validity::Invalid,
            detail: detail.into(),
        }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{:8} {:24} {}",
            self.validity, self.property, self.detail
        )
    }
}

/// The worst of `findings`; no findings prove nothing.
pub fn worst(findings: &[Finding]) -> Validity {
    findings
        .iter()
        .map(|finding| finding.validity)
        .max()
        .unwrap_or(Validity::Unknown)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Invalid beats unknown beats valid, and silence is not a pass.
    #[test]
    fn the_worst_wins() {
        let valid = Finding::valid("a", "");
        let unknown = Finding::unknown("b", "");
        let invalid = Finding::invalid("c", "");
        assert_eq!(worst(&[]), Validity::Unknown);
        assert_eq!(worst(std::slice::from_ref(&valid)), Validity::Valid);
        assert_eq!(worst(&[valid.clone(), unknown.clone()]), Validity::Unknown);
        assert_eq!(worst(&[unknown, invalid, valid]), Validity::Invalid);
    }
}

//! Why a connection did not come to stand, by blame: the network, or somebody's certificate.

use quinn::ConnectionError;

use super::STRANGER;
use super::pool::DialFailure;

/// QUIC reports a TLS alert as this number plus the alert's code.
const TLS_ALERT_BASE: u64 = 0x100;

/// Sorts a connection error into "not there" and "not to be trusted".
pub(super) fn blame(error: &ConnectionError) -> DialFailure {
    match error {
        ConnectionError::TransportError(ours) => match alert(ours.code.into()) {
            Some(alert) => DialFailure::Untrusted(format!(
                "the peer's certificate was refused here: {}",
                meaning(alert)
            )),
            None => DialFailure::Unreachable(error.to_string()),
        },
        ConnectionError::ConnectionClosed(theirs) => match alert(theirs.error_code.into()) {
            Some(alert) => DialFailure::Untrusted(format!(
                "the peer refused our certificate: {}",
                meaning(alert)
            )),
            None => DialFailure::Unreachable(error.to_string()),
        },
        ConnectionError::ApplicationClosed(close) if close.error_code == STRANGER => {
            let reason = String::from_utf8_lossy(&close.reason);
            DialFailure::Untrusted(format!("the peer turned us away: {reason}"))
        }
        ConnectionError::VersionMismatch => DialFailure::Untrusted(error.to_string()),
        ConnectionError::ApplicationClosed(_)
        | ConnectionError::Reset
        | ConnectionError::TimedOut
        | ConnectionError::LocallyClosed
        | ConnectionError::CidsExhausted => DialFailure::Unreachable(error.to_string()),
    }
}

fn alert(code: u64) -> Option<u64> {
    code.checked_sub(TLS_ALERT_BASE)
        .filter(|alert| *alert < 0x100)
}

/// In a word for the count, why the other side's certificate was refused here, if that ended the connection.
pub(super) fn refused_here(error: &ConnectionError) -> Option<&'static str> {
    let ConnectionError::TransportError(ours) = error else {
        return None;
    };
    alert(ours.code.into()).map(|alert| match alert {
        42 | 43 | 46 => "not-a-node",
        44 => "revoked",
        45 => "expired",
        48 | 51 => "wrong-cluster",
        112 | 120 => "other-protocol",
        116 => "no-certificate",
        _ => "handshake",
    })
}

/// What the alerts of RFC 8446 section 6 that concern certificates mean here.
fn meaning(alert: u64) -> String {
    match alert {
        42 | 43 | 46 => "it is not a valid node certificate".to_owned(),
        44 => "it was revoked".to_owned(),
        45 => "it has expired, or a clock is wrong".to_owned(),
        48 => "it was issued by another cluster's authority".to_owned(),
        51 => "its signature does not match this cluster's authority".to_owned(),
        112 | 120 => "it speaks another protocol or belongs to another cluster".to_owned(),
        116 => "none was shown".to_owned(),
        other => format!("TLS alert {other}"),
    }
}

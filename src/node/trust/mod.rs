//! How a node proves who it is: where its certificate comes from, how it stays valid, and, on a voter, who else gets one.

mod issuer;
mod join;
mod keeper;
mod permits;
mod ring;
mod rotation;
mod watch;

pub use issuer::Issuer;
pub use join::{obtain, present};
pub use keeper::{CertificateKeeper, Expiries};
pub use permits::permit;
pub use ring::AuthorityRing;
pub use rotation::{follow_asked, follow_own, news};
pub use watch::{follow_state, follow_voters};

//! Evidence of death: a host that is up answers for a port nobody listens on.

use std::io::{self, ErrorKind};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use tokio::net::UdpSocket;
use tokio::time::timeout;

use crate::relayed;

/// Hosts limit how many refusals they send, so ask again now and then.
const ASK_EVERY: Duration = Duration::from_millis(200);
/// No QUIC packet: a living endpoint drops it.
const KNOCK: [u8; 1] = [0];

/// Ends when the host at `address` says that nothing listens there; never ends otherwise.
///
/// The endpoint's own socket is not connected and hears no such answers, hence a socket of its own.
pub(super) async fn refused(address: SocketAddr) {
    if relayed::route(address).is_some() {
        // Its host is not to be asked, and a relay's word about it would be no evidence.
        std::future::pending::<()>().await;
    }
    if let Err(error) = knock(address).await {
        tracing::debug!(%address, %error, "cannot look for a refusal");
        std::future::pending::<()>().await;
    }
}

async fn knock(address: SocketAddr) -> io::Result<()> {
    let any: SocketAddr = match address {
        SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
        SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
    };
    let socket = UdpSocket::bind(any).await?;
    socket.connect(address).await?;
    loop {
        let heard = async {
            socket.send(&KNOCK).await?;
            socket.recv(&mut [0; 1]).await
        };
        match timeout(ASK_EVERY, heard).await {
            Ok(Err(error)) if error.kind() == ErrorKind::ConnectionRefused => return Ok(()),
            Ok(Err(error)) => return Err(error),
            // Somebody answered in bytes: the port is open.
            Ok(Ok(_)) => return Err(ErrorKind::AddrInUse.into()),
            Err(_) => {}
        }
    }
}

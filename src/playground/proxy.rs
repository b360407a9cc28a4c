//! The network between one member and a real API server: a relay that can be cut.
//!
//! While it is cut nothing passes and nothing is closed, as with a broken cable; what was under way
//! arrives when it heals.

use anyhow::Context;
use std::net::{IpAddr, SocketAddr};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};

/// Connections at one time: a member has a handful.
const CONNECTIONS_MAX: usize = 256;
const BUFFER_BYTES: usize = 16 * 1024;

/// The relay; dropping it ends it and its connections.
pub(super) struct Proxy {
    /// Where the member reaches it.
    pub(super) address: SocketAddr,
    cut: watch::Sender<bool>,
    task: JoinHandle<()>,
}

impl Proxy {
    /// Listens on the member's address and relays to the server.
    pub(super) async fn start(ip: IpAddr, server: SocketAddr) -> anyhow::Result<Self> {
        let listener = TcpListener::bind(SocketAddr::new(ip, 0))
            .await
            .context("start a proxy")?;
        let address = listener.local_addr()?;
        let (cut, is_cut) = watch::channel(false);
        let task = tokio::spawn(serve(listener, server, is_cut));
        Ok(Self { address, cut, task })
    }

    /// Cuts or heals.
    pub(super) fn set_cut(&self, cut: bool) {
        self.cut.send_replace(cut);
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn serve(listener: TcpListener, server: SocketAddr, cut: watch::Receiver<bool>) {
    let mut relays = JoinSet::new();
    loop {
        let full = relays.len() >= CONNECTIONS_MAX;
        tokio::select! {
            _ = relays.join_next(), if !relays.is_empty() => {}
            accepted = listener.accept(), if !full => {
                if let Ok((member, _)) = accepted {
                    relays.spawn(relay(member, server, cut.clone()));
                }
            }
        }
    }
}

async fn relay(member: TcpStream, server: SocketAddr, mut cut: watch::Receiver<bool>) {
    if healed(&mut cut).await.is_none() {
        return;
    }
    let Ok(server) = TcpStream::connect(server).await else {
        return;
    };
    let _ = (member.set_nodelay(true), server.set_nodelay(true));
    let (from_member, to_member) = member.into_split();
    let (from_server, to_server) = server.into_split();
    // Whichever side ends first ends both: nothing here half-closes.
    tokio::select! {
        () = pump(from_member, to_server, cut.clone()) => {}
        () = pump(from_server, to_member, cut) => {}
    }
}

async fn pump(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, mut cut: watch::Receiver<bool>) {
    let mut buffer = vec![0; BUFFER_BYTES];
    while let Ok(length @ 1..) = from.read(&mut buffer).await {
        if healed(&mut cut).await.is_none() || to.write_all(&buffer[..length]).await.is_err() {
            return;
        }
    }
    // A cut also hides that the other side has gone.
    let _ = healed(&mut cut).await;
}

/// Waits until nothing is cut; `None`: the proxy ends.
async fn healed(cut: &mut watch::Receiver<bool>) -> Option<()> {
    cut.wait_for(|cut| !cut).await.ok().map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::Ipv4Addr;
    use std::time::Duration;

    #[tokio::test]
    async fn what_is_sent_during_a_cut_arrives_when_it_heals() {
        let server = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let proxy = Proxy::start(Ipv4Addr::LOCALHOST.into(), server.local_addr().unwrap())
            .await
            .unwrap();
        let mut client = TcpStream::connect(proxy.address).await.unwrap();
        let (mut peer, _) = server.accept().await.unwrap();
        let mut text = [0; 3];
        client.write_all(b"one").await.unwrap();
        peer.read_exact(&mut text).await.unwrap();
        assert_eq!(&text, b"one");
        proxy.set_cut(true);
        client.write_all(b"two").await.unwrap();
        let silent = tokio::time::timeout(Duration::from_millis(100), peer.read(&mut text)).await;
        assert!(silent.is_err(), "{silent:?}");
        proxy.set_cut(false);
        peer.read_exact(&mut text).await.unwrap();
        assert_eq!(&text, b"two");
        drop(client);
        assert_eq!(peer.read(&mut text).await.unwrap(), 0);
    }
}

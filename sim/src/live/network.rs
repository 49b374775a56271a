//! What is between sites and their hub. To the hub every connection comes from another address, as those of real sites do:
//! it counts handshakes and joins by address, and all of this fleet's come from one machine.

use std::{
    ffi::OsString,
    net::{IpAddr, Ipv4Addr, SocketAddr},
};

use anyhow::{Context as _, Result, bail};
use tokio::{
    io::copy_bidirectional_with_sizes,
    net::{TcpListener, TcpSocket, TcpStream},
};

use super::{process, runtime};

/// Bytes on their way in one direction of a connection: a network's packet or two.
const BUFFER_BYTES: usize = 4096;

/// Carries connections to a hub's two ports, until whoever started it is gone. They come from addresses of the loopback
/// network: the second number is given for links, and is one more for joins.
pub(super) fn run(told: &[OsString]) -> Result<()> {
    let numbers: Vec<u16> = told.iter().filter_map(|text| text.to_str()?.parse().ok()).collect();
    let [broker, enrol, street] = numbers[..] else { bail!("a network is told two ports and a number") };
    let street = u8::try_from(street).context("the number stands in an address")?;
    runtime()?.block_on(async {
        let mut doors = Vec::new();
        for _ in 0..2 {
            doors.push(TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.context("cannot listen for sites")?);
        }
        let ports: Vec<u16> =
            doors.iter().map(|door| Ok(door.local_addr()?.port())).collect::<Result<_>>()?;
        process::say(&ports)?;
        let [links, joins] = <[TcpListener; 2]>::try_from(doors).expect("two were made");
        let mut told = process::told()?;
        tokio::select! {
            ended = serve(links, broker, [127, street]) => ended,
            ended = serve(joins, enrol, [127, street + 1]) => ended,
            // Nothing is ever said to it: this is the end of whoever started it.
            ended = told.next_line() => ended.map(drop).context("cannot hear the end"),
        }
    })
}

async fn serve(door: TcpListener, port: u16, [first, second]: [u8; 2]) -> Result<()> {
    let hub = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    for number in (1..u16::MAX).cycle() {
        let (site, _) = door.accept().await.context("cannot let a site in")?;
        let [third, fourth] = number.to_be_bytes();
        let from = IpAddr::from([first, second, third, fourth]);
        tokio::spawn(async move {
            // A site notices that its connection ends, and why is not its network's to say.
            let _ended = carry(site, from, hub).await;
        });
    }
    Ok(())
}

async fn carry(mut site: TcpStream, from: IpAddr, hub: SocketAddr) -> Result<()> {
    let socket = TcpSocket::new_v4()?;
    socket.bind(SocketAddr::from((from, 0)))?;
    let mut hub = socket.connect(hub).await?;
    site.set_nodelay(true)?;
    hub.set_nodelay(true)?;
    copy_bidirectional_with_sizes(&mut site, &mut hub, BUFFER_BYTES, BUFFER_BYTES).await?;
    Ok(())
}

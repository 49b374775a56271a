//! Certificates renew by themselves: with the link up, and after they ended while the tower was away.

use std::{fs, os::unix::fs::PermissionsExt as _, sync::Arc, time::Duration};

use anyhow::{Context as _, Result, bail, ensure};
use edge_agent::link::{Backoff, KEEPALIVE_SECONDS, Link, LinkConfig, LinkEvent};
use protocol::ids::ClusterId;
use tests::wait_for;

use crate::harness::{SOON, Site};

/// Long enough for a machine under load to renew before the end, short enough to wait for several.
const LIFETIME: Duration = Duration::from_secs(24);

/// Boundaries that one write of the file has: before it, before its new name, and behind that.
const FILE_BOUNDARIES: usize = 3;

/// More than an agent with nothing to do passes before it has renewed its certificate.
const BOUNDARIES: u64 = 30;

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_is_renewed_again_and_again_while_the_link_stays_up() -> Result<()> {
    let site = Site::start_short("renewed", LIFETIME).await?;
    let connected = site.agent_status().await?.hub;
    let mut held = identity(&site)?;
    for renewal in 1..=3 {
        held = renewed(&site, &held).await?;
        let mode = fs::metadata(site.state().connection())?.permissions().mode() & 0o777;
        ensure!(mode == 0o600, "renewal {renewal} left mode {mode:o}");
    }
    ensure!(site.agent_status().await?.hub == connected, "the link was up all the time");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_whose_certificate_ended_while_it_was_off_comes_back_by_itself() -> Result<()> {
    let lifetime = Duration::from_secs(8);
    let mut site = Site::start_short("away", lifetime).await?;
    site.stop_agent().await?;
    site.is_offline().await?;
    let held = identity(&site)?;
    ended(&site).await?;

    site.start_agent()?;
    site.condition("Connected").await?;
    ensure!(identity(&site)? != held, "it has a new certificate");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_anywhere_while_it_renews_an_agent_comes_back_with_a_pair_that_works() -> Result<()> {
    let mut site = Site::start_short("torn", LIFETIME).await?;
    site.stop_agent().await?;
    let mut torn = 0;
    for boundary in 1..=BOUNDARIES {
        site.start_agent_until(boundary)?;
        site.agent()?.wait(SOON).await?;
        torn += usize::from(site.agent()?.log()?.contains("File"));
        site.start_agent()?;
        wait_for("a link again", SOON, async || {
            let hub = site.agent_status().await?.hub;
            ensure!(hub.connected, "{hub:?}");
            Ok(())
        })
        .await?;
        site.stop_agent().await?;
        if torn == FILE_BOUNDARIES {
            return Ok(());
        }
    }
    bail!("of {BOUNDARIES} boundaries {torn} were at the file")
}

/// Key and certificate of the connection.
fn identity(site: &Site) -> Result<Vec<u8>> {
    Ok(fs::read(site.state().connection())?)
}

/// Waits until key and certificate are others than `held`.
async fn renewed(site: &Site, held: &[u8]) -> Result<Vec<u8>> {
    wait_for("a renewed certificate", SOON, async || {
        let identity = identity(site)?;
        ensure!(identity != held, "it is still the same");
        Ok(identity)
    })
    .await
}

/// Waits until the hub refuses the certificate that the agent holds.
async fn ended(site: &Site) -> Result<()> {
    let config = LinkConfig {
        cluster: ClusterId::new(&*site.name)?,
        host: "127.0.0.1".to_owned(),
        port: site.hub_address().port(),
        identity: site.state().connection(),
        trusted_ca: site.state().ca(),
        keepalive_seconds: KEEPALIVE_SECONDS,
        connect_within: SOON,
        backoff: Backoff { first: SOON, cap: SOON, seed: 0 },
        renewed: Arc::default(),
    };
    wait_for("the end of the certificate", SOON, async || {
        let (link, mut events) = Link::start(config.clone())?;
        let event = events.recv().await.context("the link runs")?;
        link.stop().await;
        ensure!(matches!(event, LinkEvent::Down { refused: true, .. }), "{event:?}");
        Ok(())
    })
    .await
}

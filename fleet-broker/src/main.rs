//! `fleet-broker`: the hub.

use std::{fs, net::SocketAddr, path::PathBuf, process::ExitCode, time::Duration};

use anyhow::{Context, bail};
use clap::{Parser, Subcommand};
use fleet_broker::{
    keys::{self, KeyRole},
    serve::{self, ServeConfig},
};
use tikv_jemallocator::Jemalloc;
use tracing::Level;
use tracing_subscriber::{filter::Targets, layer::SubscriberExt as _, util::SubscriberInitExt as _};

/// Thousands of connections ask for memory at once, and give it back: glibc takes longer, and keeps what it has.
#[global_allocator]
static ALLOCATOR: Jemalloc = Jemalloc;

/// The hub of an Edgefleet: decides what each cluster runs, and shows the whole fleet.
#[derive(Debug, Parser)]
#[command(name = "fleet-broker", version, arg_required_else_help = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Print the pin of this hub's certificate authority, made if need be: it belongs into the root document
    Pin {
        /// The hub's folder
        #[arg(long, value_name = "FOLDER")]
        data: PathBuf,
        /// The fleet's id
        #[arg(long)]
        fleet: String,
    },
    /// Run the hub until it is told to stop
    Serve(Serve),
}

#[derive(Debug, clap::Args)]
struct Serve {
    /// The hub's folder: store, certificate authority, kubeconfig
    #[arg(long, value_name = "FOLDER")]
    data: PathBuf,
    /// The fleet's root document
    #[arg(long, value_name = "FILE")]
    root: PathBuf,
    /// The director's private key
    #[arg(long, value_name = "FILE")]
    director_key: PathBuf,
    /// Host name or address by which agents and operators reach this hub
    #[arg(long, value_name = "HOST")]
    advertise: String,
    /// Where the API listens
    #[arg(long, value_name = "ADDRESS", default_value = "0.0.0.0:7443")]
    api: SocketAddr,
    /// Where clusters connect (MQTT over TLS)
    #[arg(long, value_name = "ADDRESS", default_value = "0.0.0.0:8883")]
    broker: SocketAddr,
    /// Where clusters enrol
    #[arg(long, value_name = "ADDRESS", default_value = "0.0.0.0:8884")]
    enrol: SocketAddr,
    /// How long certificates last, the clusters' and the hub's own, such as 180d, 12h or 90s. Both renew after a third
    #[arg(long, value_name = "TIME", default_value = "180d", value_parser = lifetime)]
    certificate_lifetime: Duration,
}

/// Shortest and longest life of a certificate: a renewal takes two connections, and the CA lasts ten years.
const LIFETIME_SECONDS: std::ops::RangeInclusive<u64> = 5..=3650 * 24 * 60 * 60;

fn lifetime(text: &str) -> Result<Duration, String> {
    let unit = text.chars().last().and_then(|unit| match unit {
        's' => Some(1),
        'm' => Some(60),
        'h' => Some(60 * 60),
        'd' => Some(24 * 60 * 60),
        _ => None,
    });
    let number = text.get(..text.len().saturating_sub(1)).and_then(|number| number.parse::<u64>().ok());
    let seconds = unit.zip(number).and_then(|(unit, number)| number.checked_mul(unit));
    let seconds = seconds.ok_or("write a number and s, m, h or d, such as 180d")?;
    if !LIFETIME_SECONDS.contains(&seconds) {
        return Err("it must be 5s to 3650d".to_owned());
    }
    Ok(Duration::from_secs(seconds))
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    // The broker's crate tells of each connection, which the fleet's events do already.
    let told = Targets::new().with_default(Level::INFO).with_target("mqtt5", Level::WARN);
    let log = tracing_subscriber::fmt::layer().with_writer(std::io::stderr).with_ansi(false);
    tracing_subscriber::registry().with(log).with(told).init();
    match run(cli.command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(command: Command) -> anyhow::Result<()> {
    match command {
        Command::Pin { data, fleet } => {
            let pin = serve::certificate_authority(&data, &fleet)?.pin();
            #[allow(clippy::print_stdout, reason = "the pin is this command's answer")]
            {
                println!("{pin}");
            }
            Ok(())
        }
        Command::Serve(serve) => {
            let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
            runtime.block_on(run_hub(serve))
        }
    }
}

async fn run_hub(serve: Serve) -> anyhow::Result<()> {
    let root = fs::read(&serve.root).with_context(|| format!("cannot read {}", serve.root.display()))?;
    let director = keys::load_signing_key(&serve.director_key)?;
    if director.role != KeyRole::Director {
        bail!("{} is not a director key", serve.director_key.display());
    }
    if director.exposed {
        bail!("{} can be read by others: chmod 600 it", serve.director_key.display());
    }
    let config = ServeConfig {
        directory: serve.data,
        api: serve.api,
        broker: serve.broker,
        enrol: serve.enrol,
        advertise: serve.advertise,
        root,
        director: director.key,
        certificate_lifetime: serve.certificate_lifetime,
    };
    let mut hub = serve::start(config).await?;
    tracing::info!(api = %hub.api, clusters = %hub.addresses.clusters, kubeconfig = %hub.kubeconfig.display(), "ready");
    let mut terminate = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())?;
    tokio::select! {
        problem = hub.failed() => bail!("{problem}"),
        _ = tokio::signal::ctrl_c() => {}
        _ = terminate.recv() => {}
    }
    tracing::info!("stopping");
    hub.stop().await;
    Ok(())
}

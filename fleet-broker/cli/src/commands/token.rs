//! `edgefleet token`: who else may use the hub.

use std::path::{Path, PathBuf};

use clap::{Subcommand, ValueEnum};
use fleet_broker::{kubeconfig, logic::access::Role};
use jiff::Timestamp;

use super::{
    CommandError, Context,
    arguments::{Expiry, expiry},
    cluster::HubArguments,
    hub_runtime,
};
use crate::hub::Hub;

/// What can be done with tokens.
#[derive(Debug, Subcommand)]
pub enum Tokens {
    /// Make a token and print a kubeconfig for its bearer, which nobody can ask for again
    Create {
        /// Its bearer's name, as the hub will call them
        name: String,
        /// What they may
        #[arg(long, value_enum)]
        role: RoleArgument,
        /// When it ends, such as 90d, or a time; without it, when it is revoked
        #[arg(long, value_name = "WHEN", value_parser = expiry)]
        expires: Option<Expiry>,
        /// Write the kubeconfig into this new file, which only you may read, instead of printing it
        #[arg(long, short = 'o', value_name = "FILE")]
        output: Option<PathBuf>,
        /// Which hub
        #[command(flatten)]
        hub: HubArguments,
    },
    /// Show every token, without its secret, which the hub does not keep
    List {
        /// Which hub
        #[command(flatten)]
        hub: HubArguments,
    },
    /// End a token, and everything its bearer has open
    Revoke {
        /// Whose
        name: String,
        /// Which hub
        #[command(flatten)]
        hub: HubArguments,
    },
}

/// What the bearer of a token may.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum RoleArgument {
    /// See everything
    Viewer,
    /// Change the fleet too
    Operator,
    /// Make and revoke tokens too
    Admin,
}

impl From<RoleArgument> for Role {
    fn from(argument: RoleArgument) -> Self {
        match argument {
            RoleArgument::Viewer => Self::Viewer,
            RoleArgument::Operator => Self::Operator,
            RoleArgument::Admin => Self::Admin,
        }
    }
}

impl Tokens {
    pub(super) fn run(&self, context: &mut Context<'_>) -> Result<(), CommandError> {
        match self {
            Self::Create { name, role, expires, output, hub } => {
                create(context, hub, name, (*role).into(), *expires, output.as_deref())
            }
            Self::List { hub } => list(context, hub),
            Self::Revoke { name, hub } => {
                hub_runtime()?
                    .block_on(async { Hub::open(&hub.kubeconfig).await?.revoke_token(name).await })?;
                Ok(context.output.note(&format!("{name} can no longer use the hub."))?)
            }
        }
    }
}

fn create(
    context: &mut Context<'_>,
    hub: &HubArguments,
    name: &str,
    role: Role,
    expires: Option<Expiry>,
    output: Option<&Path>,
) -> Result<(), CommandError> {
    // Somebody's kubeconfig of other clusters must not be lost to a slip.
    if let Some(path) = output.filter(|path| path.exists()) {
        return Err(CommandError::Usage(format!("{} is there already; name a new file", path.display())));
    }
    let expires = expires.map(|expires| {
        let seconds = i64::try_from(expires.from(context.now).0).ok();
        let time = seconds.and_then(|seconds| Timestamp::from_second(seconds).ok());
        time.ok_or_else(|| CommandError::Usage("--expires is further away than calendars go".to_owned()))
    });
    let expires = expires.transpose()?;
    let runtime = hub_runtime()?;
    let hub = runtime.block_on(Hub::open(&hub.kubeconfig))?;
    let made = runtime.block_on(hub.create_token(name, role, expires))?;
    let Some(path) = output else {
        context.output.note("This kubeconfig holds a secret that the hub does not show again:")?;
        return Ok(context.output.data.write_all(made.as_bytes())?);
    };
    if let Err(source) = kubeconfig::replace(path, made.as_bytes()) {
        // Nobody has it, so nobody must find it open.
        runtime.block_on(hub.revoke_token(name))?;
        let file = path.display().to_string();
        return Err(CommandError::File { action: "write", file, source });
    }
    Ok(context
        .output
        .note(&format!("Give {} to {name}: kubectl --kubeconfig {0} get clusters", path.display()))?)
}

fn list(context: &mut Context<'_>, hub: &HubArguments) -> Result<(), CommandError> {
    let tokens = hub_runtime()?.block_on(async { Hub::open(&hub.kubeconfig).await?.tokens().await })?;
    let or = |text: String, absent: &str| if text.is_empty() { absent.to_owned() } else { text };
    let rows = tokens.into_iter().map(|token| {
        let (created, expires) = (or(token.created, "-"), or(token.expires, "never"));
        vec![token.name, token.role, created, expires, or(token.last_used, "never")]
    });
    Ok(context.output.table(&["NAME", "ROLE", "CREATED", "EXPIRES", "LAST USED"], rows.collect())?)
}

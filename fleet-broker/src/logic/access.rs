//! Who may do what. A request asks for something, a role has it or not: denied is what no rule allows.

use serde::{Deserialize, Serialize};

use crate::resources::GROUP;

mod asked;
mod bucket;
mod failures;
mod record;
#[cfg(test)]
mod tests;

pub use asked::{Asked, ResourceAsked};
pub use bucket::{Bucket, Rate};
pub use failures::Failures;
pub use record::{ADMIN, Record, RecordError, TOKENS_MAX, check_name};

/// The group in which clients ask what they may do.
pub const AUTHORIZATION: &str = "authorization.k8s.io";
/// The group in which clients ask who they are.
pub const AUTHENTICATION: &str = "authentication.k8s.io";

/// What somebody is to the hub. Each may all that the one before may.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Sees everything.
    Viewer,
    /// Changes the fleet.
    Operator,
    /// Says who else may.
    Admin,
}

/// What a role may do with resources. `*` stands for all.
#[derive(Debug)]
pub struct ResourceRule {
    least: Role,
    /// Verbs as Kubernetes names them.
    pub verbs: &'static [&'static str],
    /// API groups.
    pub groups: &'static [&'static str],
    /// Resources, and `resource/subresource`.
    pub resources: &'static [&'static str],
}

/// What a role may do with other paths. A `*` at the end stands for any end.
#[derive(Debug)]
pub struct PathRule {
    least: Role,
    /// Methods in lower case.
    pub verbs: &'static [&'static str],
    /// Paths.
    pub paths: &'static [&'static str],
}

/// Statuses are written by the hub itself, so operators only read them.
const RESOURCE_RULES: [ResourceRule; 8] = [
    ResourceRule {
        least: Role::Viewer,
        verbs: &["get", "list", "watch"],
        groups: &[GROUP],
        resources: &["applications", "assignments", "bundles", "clusters", "freezes"],
    },
    ResourceRule {
        least: Role::Viewer,
        verbs: &["get"],
        groups: &[GROUP],
        resources: &["applications/status", "assignments/status", "clusters/status"],
    },
    ResourceRule {
        least: Role::Viewer,
        verbs: &["get", "list", "watch"],
        groups: &[""],
        resources: &["events"],
    },
    ResourceRule { least: Role::Viewer, verbs: &["get", "list"], groups: &[""], resources: &["namespaces"] },
    ResourceRule {
        least: Role::Viewer,
        verbs: &["create"],
        groups: &[AUTHORIZATION, AUTHENTICATION],
        resources: &["selfsubjectaccessreviews", "selfsubjectrulesreviews", "selfsubjectreviews"],
    },
    ResourceRule {
        least: Role::Operator,
        verbs: &["create", "delete", "patch", "update"],
        groups: &[GROUP],
        resources: &["applications", "bundles", "clusters", "freezes"],
    },
    ResourceRule {
        least: Role::Operator,
        verbs: &["create"],
        groups: &[GROUP],
        resources: &["clusters/export", "clusters/join", "clusters/report", "clusters/revoke"],
    },
    ResourceRule { least: Role::Admin, verbs: &["*"], groups: &["*"], resources: &["*"] },
];

const PATH_RULES: [PathRule; 4] = [
    PathRule {
        least: Role::Viewer,
        verbs: &["get"],
        paths: &[
            "/api",
            "/api/*",
            "/apis",
            "/apis/*",
            "/blobs/*",
            "/livez",
            "/metrics",
            "/openapi/*",
            "/readyz",
            "/recovery",
            "/version",
        ],
    },
    PathRule { least: Role::Operator, verbs: &["put"], paths: &["/blobs/*"] },
    PathRule { least: Role::Operator, verbs: &["post"], paths: &["/recovery/accept"] },
    PathRule { least: Role::Admin, verbs: &["*"], paths: &["*"] },
];

impl Role {
    /// All of them, the least first.
    pub const ALL: [Role; 3] = [Role::Viewer, Role::Operator, Role::Admin];

    /// The role with this name: `viewer`.
    pub fn from_name(name: &str) -> Option<Role> {
        Role::ALL.into_iter().find(|role| role.name() == name)
    }

    /// `viewer`.
    pub const fn name(self) -> &'static str {
        match self {
            Role::Viewer => "viewer",
            Role::Operator => "operator",
            Role::Admin => "admin",
        }
    }

    /// Whether a rule gives this role what is asked for.
    pub fn allows(self, asked: &Asked) -> bool {
        match asked {
            Asked::Resource(asked) => self.resource_rules().any(|rule| rule.covers(asked)),
            Asked::Path { verb, path } => self.path_rules().any(|rule| rule.covers(verb, path)),
        }
    }

    /// What it may do with resources.
    pub fn resource_rules(self) -> impl Iterator<Item = &'static ResourceRule> {
        RESOURCE_RULES.iter().filter(move |rule| rule.least <= self)
    }

    /// What it may do with other paths.
    pub fn path_rules(self) -> impl Iterator<Item = &'static PathRule> {
        PATH_RULES.iter().filter(move |rule| rule.least <= self)
    }
}

impl ResourceRule {
    fn covers(&self, asked: &ResourceAsked) -> bool {
        has(self.verbs, &asked.verb)
            && has(self.groups, &asked.group)
            && has(self.resources, &asked.full_resource())
    }
}

impl PathRule {
    /// An escaped path may mean another one to whoever serves it, so that only who may all may ask for it.
    fn covers(&self, verb: &str, path: &str) -> bool {
        let covered = |rule: &&str| match rule.strip_suffix('*') {
            Some("") => true,
            Some(start) => path.starts_with(start) && !path.contains('%'),
            None => *rule == path,
        };
        has(self.verbs, verb) && self.paths.iter().any(covered)
    }
}

fn has(list: &[&str], word: &str) -> bool {
    list.iter().any(|listed| *listed == "*" || *listed == word)
}

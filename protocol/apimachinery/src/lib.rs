//! What Kubernetes objects obey, pure: selectors, patches, server-side apply, tables.

pub mod apply;
pub mod fields;
pub mod meta;
pub mod names;
pub mod patch;
pub mod schema;
pub mod selector;
pub mod table;

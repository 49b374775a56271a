//! What Kubernetes objects obey, pure: selectors, patches, server-side apply, tables.

pub mod names;
pub mod selector;
pub mod table;

//! What Kubernetes objects obey, pure: selectors, patches, server-side apply, tables.

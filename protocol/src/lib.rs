//! What travels between hub and edge: documents, envelope, verification, topics, limits. No I/O.

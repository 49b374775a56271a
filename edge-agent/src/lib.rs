//! The agent: one small process that keeps one cluster in its signed desired state.

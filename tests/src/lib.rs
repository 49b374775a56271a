//! Promises kept on real parts: the harness and, in its tests, the promises.

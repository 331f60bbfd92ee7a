//! Ingress to store to target.

//! Care invitations (vårdinbjudan) for Swedish specialised outpatient care.
#![warn(missing_docs)]

pub mod auth;
pub mod cli;
pub mod client;
pub mod clock;
pub mod config;
pub mod contract;
pub mod dispatch;
pub mod domain;
pub mod grpc;
pub mod readiness;
pub mod server;
pub mod store;
pub mod telemetry;

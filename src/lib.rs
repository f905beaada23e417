//! Care invitations (vårdinbjudan) for Swedish specialised outpatient care.
#![warn(missing_docs)]

pub mod contract;
pub mod domain;

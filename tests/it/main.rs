//! One test binary: the rules as tables, the store on its databases, and the whole service through
//! a real client on a hand-moved clock.

mod backend;
mod consumer;
mod harness;
mod make;
mod staff;
mod wire;

mod booking_request;
mod boundary;
mod care_invitation;
mod model;
mod notification;
mod program;
mod readme;
mod shutdown;
mod store;
mod tidy;
mod worklist;

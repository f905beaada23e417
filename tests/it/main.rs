//! One test binary: the policy as tables, the store on its databases, and the whole service through
//! a real client on a hand-moved clock.

mod ahead;
mod backend;
mod cluster;
mod consumer;
mod harness;
mod logged;
mod make;
mod proxy;
mod replica;
mod staff;
mod wire;

mod away;
mod booking_request;
mod boundary;
mod care_invitation;
mod clock;
mod disk;
mod failover;
mod links;
mod log;
mod migration;
mod model;
mod notification;
mod overload;
mod plan;
mod postgres;
mod program;
mod purge;
mod quarantine;
mod readme;
mod replicas;
mod shutdown;
mod store;
mod stored;
mod tidy;
mod worklist;

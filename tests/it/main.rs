//! One test binary: the rules as tables, the store on its databases, and the whole service through
//! a real client on a hand-moved clock.
//!
//! | helper | is |
//! | --- | --- |
//! | `harness` | the whole service on a port of its own, with clients and a clock to move |
//! | `backend`, `replica` | a database of a test's own; one replica of several over one |
//! | `postgres`, `cluster`, `proxy` | the run's server; one with a standby; what stands between service and database |
//! | `collector` | a collector of traces |
//! | `make`, `store_fixtures` | the smallest valid call; what tests do to a store without the service |
//! | `consumer`, `worklist_user`, `wire` | an adapter; what staff do; calls as bytes |

mod backend;
mod backup;
mod cluster;
mod collector;
mod consumer;
mod harness;
mod logged;
mod make;
mod partitions;
mod patient_requests;
mod people;
mod pipelining;
mod proxies;
mod proxy;
mod replica;
mod wire;
mod worklist_user;
mod yet_again;

mod access_log;
mod again;
mod alerts;
mod any_bytes;
mod booking_request;
mod boundary;
mod cancelled;
mod care_invitation;
mod care_unit_settings;
mod change_stream;
mod claim_protocol;
mod clock;
mod compression;
mod crash;
mod data_file;
mod database_outage;
mod disk;
mod door;
mod entities;
mod failover;
mod floods;
mod links;
mod log;
mod metrics;
mod migration;
mod model;
mod notification;
mod overload;
mod plan;
mod postgres;
mod program;
mod purge;
mod quarantine;
mod races;
mod readme;
mod recovery;
mod reflection;
mod replicas;
mod restore;
mod routing;
mod shutdown;
mod simulation;
mod slot;
mod store;
mod store_fixtures;
mod texts;
mod tidy;
mod traces;
mod wal;
mod web;
mod worklist;

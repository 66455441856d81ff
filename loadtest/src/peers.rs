//! Relays side by side: the same workloads for Tandem and for others, in one run, one after the other in turn, each of them on
//! the same core with the same load.
//!
//! - [`command`]: `tandem-loadtest peers`; `workload`: what is asked; `report`: what it prints; `restart`: a relay that is killed;
//! - `systems`: which relays there are and how each is started; `kept`: as what;
//! - [`drive`]: the load, a process of its own; for `streams`: whatever forwards bytes of TLS; for `tandem`: ours.
//!
//! Relays that speak protocols of their own have programs of their own to load them, in `loadtest/peers`: packages that
//! nothing else is built with.

pub mod command;
pub mod drive;
mod kept;
mod network;
mod report;
mod restart;
mod streams;
mod systems;
mod tandem;
mod workload;

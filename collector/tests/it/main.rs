//! The collector over loopback: real TLS, real store, agents that are played.

mod agent;
mod ask;
mod backup;
mod beside;
mod capacity;
mod cardinality;
mod changes;
mod crash;
mod damage;
mod enrol;
mod fleet;
mod forget;
mod heal;
mod load;
mod notify;
mod operator;
mod power;
mod program;
mod promql;
mod query;
mod remote;
mod retention;
mod rollup;
mod room;
mod session;
mod world;

//! All scenarios in one binary: one link, one shared broker.

mod arango;
mod architecture;
mod bad_input;
mod batch_loop;
mod crashes;
mod days;
mod deploy;
mod dev;
mod examples;
mod flow;
mod harness;
mod observed;
mod operated;
mod outages;
mod reading;
mod reload;
mod retries;
mod sdk;
mod security;
mod starts;
mod status;
mod stored;
mod support;
mod topics;
mod traced;
mod transactions;

//! What makes a service: configuration, the Kafka batch loop, health, logs.

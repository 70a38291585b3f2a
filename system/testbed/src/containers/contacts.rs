//! What the clients of a node, and those of the operator, connect to.
use std::net::SocketAddr;

use chat_external::cassandra::CassandraConfig;
use chat_external::kafka::KafkaConfig;
use chat_external::redis::RedisConfig;
use chat_external::s3::S3Config;
use chat_protocol::limits::Timers;

use super::BackendSet;
use crate::config::Config;
use crate::process::S3Place;

/// Where the backends are, and the limits of their clients.
pub(crate) struct Wanted {
    pub(crate) redis: SocketAddr,
    pub(crate) cassandra: SocketAddr,
    /// `host:port`, separated by commas.
    pub(crate) kafka: String,
    pub(crate) s3: S3Place,
    pub(crate) timers: Timers,
    pub(crate) partitions: u32,
    pub(crate) relay_queue: u64,
    pub(crate) log_buffer: u64,
}

impl Wanted {
    /// The backends of a set as a client on this host reaches them.
    pub(super) fn here(config: &Config, set: &BackendSet) -> Self {
        let s3 = set.s3();
        Self {
            redis: set.redis(),
            cassandra: set.cassandra(),
            kafka: set.bootstrap(),
            s3: S3Place {
                endpoint: format!("http://{}", s3.addr),
                access_key: s3.access_key.to_owned(),
                secret_key: s3.secret_key.to_owned(),
            },
            timers: config.timers,
            partitions: config.partitions,
            relay_queue: config.relay_queue,
            log_buffer: config.log_buffer,
        }
    }
}

/// The configuration of every client.
#[derive(Clone)]
pub(crate) struct Contacts {
    pub(super) redis: RedisConfig,
    pub(super) kafka: KafkaConfig,
    pub(super) cassandra: CassandraConfig,
    pub(super) s3: S3Config,
    pub(super) timers: Timers,
}

impl Contacts {
    pub(crate) fn new(wanted: Wanted) -> Self {
        let timers = wanted.timers;
        Self {
            redis: RedisConfig {
                addr: wanted.redis,
                prefix: "chat".to_owned(),
                relay_queue: wanted.relay_queue,
                call: timers.store_call,
            },
            kafka: KafkaConfig {
                log_buffer: wanted.log_buffer,
                ..KafkaConfig::new(wanted.kafka, "", wanted.partitions, &timers)
            },
            cassandra: CassandraConfig {
                contact: wanted.cassandra,
                keyspace: "chat".to_owned(),
                replication: 1,
                call: timers.table_call,
            },
            s3: S3Config {
                endpoint: wanted.s3.endpoint,
                bucket: "snapshots".to_owned(),
                access_key: wanted.s3.access_key,
                secret_key: wanted.s3.secret_key,
                call: timers.table_call,
            },
            timers,
        }
    }
}

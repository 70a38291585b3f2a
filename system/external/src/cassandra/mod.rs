//! History and tables on Cassandra.
//!
//! Rows of a conversation lie in segments of [`SEGMENT_ROWS`] by `cseq`, a segment a partition, so that no room grows a partition
//! without end. Segment 0 is read without looking; that a later one exists stands in the table `segments`, written in the same
//! request as its rows, so a page backward finds the highest segment with one small read and skips holes.
//!
//! Everything is an equal write when it comes again, reads and writes are at `LOCAL_QUORUM`, and a conditional write is a
//! lightweight transaction at `SERIAL`. The driver repeats nothing: a call that failed is the caller's to repeat.
//!
//! - `store` the configuration, the limits, and the two ports.
//! - `schema` keyspace and tables.
//! - `link` the session and who replaces it when it has no connection.
//! - `statements` what is prepared.
//! - `rows` a row as it is bound and read back.
//! - `batches` which rows share a request.
//! - `way` one request, and all rows of a statement.
//! - `pages` pages across the borders of segments.
//! - `history` and `tables` the ports.
//! - `failure` which error means that nothing happened.
mod batches;
mod failure;
mod history;
mod link;
mod pages;
mod rows;
mod schema;
mod statements;
mod store;
mod tables;
mod way;

pub use batches::{BATCH_BYTES, BATCH_ROWS};
pub use history::DIGEST_CALLS;
pub use link::{CONNECT_MAX, KEEPALIVE, RECONNECT_PAUSE};
pub use pages::{PAGE_ROWS_MAX, SEGMENTS_MAX};
pub use rows::SEGMENT_ROWS;
pub use schema::SCHEMA_MAX;
pub use store::{CassandraConfig, CassandraStore, REQUESTS_MAX, WAITING_MAX};

//! Node-to-node messages and their gRPC services, generated from `proto/node.proto`.
#![expect(
    missing_docs,
    unused_qualifications,
    clippy::all,
    clippy::pedantic,
    clippy::allow_attributes,
    clippy::clone_on_ref_ptr,
    clippy::allow_attributes_without_reason,
    reason = "generated code; the proto file is its documentation"
)]
tonic::include_proto!("chatstorm.node.v1");

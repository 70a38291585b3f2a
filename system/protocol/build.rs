//! Compiles `proto/node.proto` without protoc, so that a C compiler is all a build needs.
fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo::rerun-if-changed=proto/node.proto");
    if std::env::var_os("CARGO_FEATURE_NODE_RPC").is_none() {
        return Ok(());
    }
    let descriptors = protox::compile(["proto/node.proto"], ["proto"])?;
    let mut prost = tonic_prost_build::Config::new();
    prost.bytes(["."]);
    tonic_prost_build::configure().compile_fds_with_config(descriptors, prost)?;
    Ok(())
}

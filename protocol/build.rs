//! Makes Rust of `proto/` with a protobuf compiler written in Rust, so that no protoc need be installed.

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo:rerun-if-changed=proto");
    #[cfg(feature = "messages")]
    {
        let files = protox::compile(["control.proto", "input.proto", "peer.proto"], ["proto"])?;
        prost_build::Config::new().compile_fds(files)?;
    }
    Ok(())
}

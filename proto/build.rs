//! Generates the wire types from the .proto files, without a protoc on the machine.

use std::path::Path;

const FILES: [&str; 3] = ["mainstay/v1/domain.proto", "mainstay/v1/session.proto", "mainstay/v1/operator.proto"];

fn main() -> Result<(), Box<dyn std::error::Error>> {
    for file in FILES {
        println!("cargo:rerun-if-changed={file}");
    }
    let descriptors = protox::compile(FILES, [Path::new(".")])?;
    tonic_prost_build::configure().codec_path("crate::codec::SmallBuffers").compile_fds(descriptors)?;
    Ok(())
}

//! The console's files are embedded: a new build of it is a reason to build the relay again.

fn main() {
    println!("cargo:rerun-if-changed=../console/dist");
}

//! Has the linker pack the addresses that are filled in at the start: they are read, and so become resident, once each.
//! Takes glibc 2.36, as the packages do.

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rustc-link-arg-bins=-Wl,-z,pack-relative-relocs");
}

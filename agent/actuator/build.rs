//! How the actuator is linked, so that less of it is resident. It takes glibc 2.36, as the packages do.

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    // Addresses that are filled in at the start are packed: they are read, and so become resident, once each.
    println!("cargo:rustc-link-arg-bins=-Wl,-z,pack-relative-relocs");
    // As it is shipped (profile lean) it unwinds for a backtrace at most: without a library for that alone.
    if std::env::var("OPT_LEVEL").is_ok_and(|level| level == "s") {
        println!("cargo:rustc-link-lib=static:-bundle=gcc_eh");
    }
}

//! How the agent is linked, so that less of it is resident. It takes glibc 2.36, as the packages do.

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rerun-if-changed=hot.ld");
    // Addresses that are filled in at the start are packed: they are read, and so become resident, once each.
    println!("cargo:rustc-link-arg-bins=-Wl,-z,pack-relative-relocs");
    // What follows is for the agent as it is shipped, in the profile lean.
    if std::env::var("OPT_LEVEL").is_ok_and(|level| level == "s") {
        // It unwinds for a backtrace at most: without a library for that alone.
        println!("cargo:rustc-link-lib=static:-bundle=gcc_eh");
        // What runs all the time stands together, and what the compiler calls cold as well (bench/hot.rs).
        // A copy, as one target folder may serve several checkouts, of which the one that was built first may be gone.
        let hot = format!("{}/hot.ld", std::env::var("OUT_DIR").expect("Cargo says where to put what is made"));
        std::fs::copy("hot.ld", &hot).expect("agent/hot.ld can be copied");
        println!("cargo:rustc-link-arg-bins=-Wl,-T,{hot}");
        println!("cargo:rustc-link-arg-bins=-Wl,-z,keep-text-section-prefix");
    }
}

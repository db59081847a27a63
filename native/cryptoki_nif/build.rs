//! Links the library so that the VM can never unmap it: our threads run its code until the very end.

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    let os = std::env::var("CARGO_CFG_TARGET_OS").unwrap_or_default();
    if matches!(
        os.as_str(),
        "linux" | "android" | "freebsd" | "netbsd" | "openbsd"
    ) {
        println!("cargo:rustc-cdylib-link-arg=-Wl,-z,nodelete");
    }
    if os == "macos" {
        for argument in ["-undefined", "dynamic_lookup"] {
            println!("cargo:rustc-cdylib-link-arg={argument}");
        }
    }
}

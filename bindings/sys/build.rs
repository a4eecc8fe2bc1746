//! Generates the bindings from the installed libdpdk and compiles the shim beside them.

use std::env;
use std::path::PathBuf;
use std::process::{Command, exit};

/// Functions of the library that the safe layer calls.
const FUNCTIONS: &[&str] = &[
    "rte_dev_probe",
    "rte_eal_cleanup",
    "rte_eal_get_runtime_dir",
    "rte_eal_hotplug_remove",
    "rte_eal_init",
    "rte_eth_allmulticast_enable",
    "rte_eth_dev_adjust_nb_rx_tx_desc",
    "rte_eth_dev_close",
    "rte_eth_dev_configure",
    "rte_eth_dev_get_mtu",
    "rte_eth_dev_get_name_by_port",
    "rte_eth_dev_get_port_by_name",
    "rte_eth_dev_info_get",
    "rte_eth_dev_rss_hash_conf_get",
    "rte_eth_dev_rss_hash_update",
    "rte_eth_dev_rss_reta_query",
    "rte_eth_dev_rss_reta_update",
    "rte_eth_dev_set_mtu",
    "rte_eth_dev_socket_id",
    "rte_eth_dev_start",
    "rte_eth_dev_stop",
    "rte_eth_find_next",
    "rte_eth_iterator_cleanup",
    "rte_eth_iterator_init",
    "rte_eth_iterator_next",
    "rte_eth_macaddr_get",
    "rte_eth_promiscuous_enable",
    "rte_eth_promiscuous_get",
    "rte_eth_rx_queue_setup",
    "rte_eth_stats_get",
    "rte_eth_tx_queue_setup",
    "rte_eth_xstats_get",
    "rte_eth_xstats_get_names",
    "rte_get_tsc_hz",
    "rte_log_cur_msg_loglevel",
    "rte_log_set_global_level",
    "rte_mempool_avail_count",
    "rte_mempool_in_use_count",
    "rte_openlog_stream",
    "rte_pktmbuf_free_bulk",
    "rte_pktmbuf_pool_create",
    "rte_ring_create",
    "rte_ring_free",
    "rte_strerror",
    "rte_thread_register",
    "rte_thread_unregister",
    "rte_version",
];

/// Types of which only the address is used. Their fields differ between versions, are packed, or
/// hold unions; what is needed of them goes through the shim.
const OPAQUE: &[&str] = &[
    "rte_mbuf",
    "rte_mempool",
    "rte_ring",
    "rte_device",
    "rte_eth_link",
];

fn main() {
    println!("cargo::rerun-if-changed=shim.h");
    println!("cargo::rerun-if-changed=shim.c");
    for name in [
        "PKG_CONFIG",
        "PKG_CONFIG_PATH",
        "PKG_CONFIG_LIBDIR",
        "PKG_CONFIG_SYSROOT_DIR",
    ] {
        println!("cargo::rerun-if-env-changed={name}");
    }
    require_libclang();
    let flags = compiler_flags();
    compile_shim(&flags);
    generate(&flags);
    link();
}

/// Ends the build with one line that says what is missing and what to install.
fn missing(what: &str) -> ! {
    println!(
        "cargo::error={what}. On Debian: apt-get install libdpdk-dev libclang-dev pkg-config gcc"
    );
    // The line above fails the build. A bad exit status would too, but cargo would then bury the
    // line under everything else that was printed.
    exit(0)
}

fn require_libclang() {
    std::panic::set_hook(Box::new(|_| {}));
    let found = std::panic::catch_unwind(bindgen::clang_version);
    let _ = std::panic::take_hook();
    if found.is_err() {
        missing("libclang, which reads DPDK's headers, was not found");
    }
}

fn pkg_config(argument: &str) -> Vec<String> {
    let program = env::var("PKG_CONFIG").unwrap_or_else(|_| "pkg-config".into());
    match Command::new(&program).args([argument, "libdpdk"]).output() {
        Err(_) => missing(&format!(
            "the program {program}, which finds libdpdk, was not found"
        )),
        Ok(output) if !output.status.success() => {
            missing("libdpdk was not found: its headers or its libdpdk.pc are not installed")
        }
        Ok(output) => String::from_utf8_lossy(&output.stdout)
            .split_whitespace()
            .map(str::to_owned)
            .collect(),
    }
}

fn compiler_flags() -> Vec<String> {
    // Both readers of the headers see the same flags. The compiler that built DPDK chose
    // `-march`, and the headers' inline functions need at least that.
    pkg_config("--cflags")
}

fn compile_shim(flags: &[String]) {
    let mut build = cc::Build::new();
    build.file("shim.c").opt_level(3).warnings(false);
    // Some inlined alternatives that are declared deprecated or experimental are never called.
    build.define("ALLOW_EXPERIMENTAL_API", None);
    for flag in flags {
        build.flag(flag);
    }
    if let Err(error) = build.try_compile("dpdk_shim") {
        missing(&format!(
            "shim.c was not compiled: {}",
            error.to_string().replace('\n', " ")
        ));
    }
}

fn generate(flags: &[String]) {
    let mut builder = bindgen::Builder::default()
        .header("shim.h")
        .clang_args(flags)
        .clang_arg("-DALLOW_EXPERIMENTAL_API")
        .allowlist_file(".*shim\\.h")
        .allowlist_var("rte_eth_fp_ops")
        .default_enum_style(bindgen::EnumVariation::Consts)
        .derive_default(true)
        .layout_tests(false)
        .generate_comments(false)
        .merge_extern_blocks(true)
        .rust_target(bindgen::RustTarget::stable(85, 0).unwrap_or_default())
        .rust_edition(bindgen::RustEdition::Edition2024);
    for function in FUNCTIONS {
        builder = builder.allowlist_function(function);
    }
    for name in OPAQUE {
        builder = builder.opaque_type(name);
    }
    let path = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets OUT_DIR")).join("dpdk.rs");
    match builder.generate() {
        Ok(bindings) => bindings.write_to_file(&path).expect("OUT_DIR is writable"),
        Err(error) => missing(&format!(
            "DPDK's headers could not be read: {}",
            error.to_string().replace('\n', " ")
        )),
    }
}

fn link() {
    for flag in pkg_config("--libs") {
        if let Some(directory) = flag.strip_prefix("-L") {
            println!("cargo::rustc-link-search=native={directory}");
        } else if let Some(library) = flag.strip_prefix("-l") {
            println!("cargo::rustc-link-lib=dylib={library}");
        }
    }
}

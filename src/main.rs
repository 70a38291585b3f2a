//! The chatstorm binary: everything is in the library of the same name.
use std::process::ExitCode;

// Messages are allocated on one thread and freed on another all the time, which costs glibc's allocator a lock each.
#[cfg(feature = "mimalloc")]
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    chatstorm::command_line(std::env::args_os())
}

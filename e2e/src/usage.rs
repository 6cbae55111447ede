//! What a process uses, as the kernel counts it: CPU time, memory, descriptors (`proc(5)`).

use std::fs;

use anyhow::Context;

/// What the kernel counts CPU time in: `sysconf(_SC_CLK_TCK)`, which is 100 on every Linux that Rust runs on.
const TICKS_PER_SECOND: f64 = 100.0;

/// User and system time of a process so far, in seconds, of all its threads.
///
/// # Errors
/// If the process has ended.
pub fn cpu_seconds(pid: u32) -> anyhow::Result<f64> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).context("the process has ended")?;
    // The name in brackets may hold anything; after it come fields 3 and on, and 14 and 15 are the times.
    let rest = text.rsplit_once(") ").context("an odd stat file")?.1;
    let ticks: Option<f64> = rest
        .split(' ')
        .skip(11)
        .take(2)
        .map(|field| field.parse::<f64>().ok())
        .sum();
    Ok(ticks.context("an odd stat file")? / TICKS_PER_SECOND)
}

/// Resident memory of a process now, in bytes.
///
/// # Errors
/// If the process has ended.
pub fn resident(pid: u32) -> anyhow::Result<u64> {
    status_bytes(pid, "VmRSS:")
}

/// The most resident memory that a process has had since it began, or since [`forget_peak`], in bytes.
///
/// # Errors
/// If the process has ended.
pub fn peak(pid: u32) -> anyhow::Result<u64> {
    status_bytes(pid, "VmHWM:")
}

/// Begins [`peak`] anew, from what is resident now.
///
/// # Errors
/// If the process has ended.
pub fn forget_peak(pid: u32) -> anyhow::Result<()> {
    fs::write(format!("/proc/{pid}/clear_refs"), "5").context("the process has ended")
}

fn status_bytes(pid: u32, field: &str) -> anyhow::Result<u64> {
    let text = fs::read_to_string(format!("/proc/{pid}/status")).context("the process has ended")?;
    let line = text.lines().find_map(|line| line.strip_prefix(field));
    let kibibytes = line.and_then(|rest| rest.trim().strip_suffix(" kB")?.parse::<u64>().ok());
    Ok(kibibytes.with_context(|| format!("no {field} in a status file"))? << 10)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_uses_something() {
        let me = std::process::id();
        forget_peak(me).unwrap();
        let large = std::hint::black_box(vec![1_u8; 32 << 20]);
        assert!(resident(me).unwrap() >= 32 << 20);
        assert!(peak(me).unwrap() >= 32 << 20);
        assert!(cpu_seconds(me).unwrap() >= 0.0);
        drop(large);
    }

    #[test]
    fn a_process_that_is_no_more_uses_nothing() {
        // Above the largest id that Linux gives.
        assert!(cpu_seconds(u32::MAX).is_err());
        assert!(resident(u32::MAX).is_err());
    }
}

//! Does this machine have what the program was compiled for?
//!
//! A processor that lacks an instruction ends the process where the first one stands, with nothing but "illegal
//! instruction". So it is asked before anything else.

/// What is missing of what `.cargo/config.toml` promises the compiler; `None`: nothing.
#[cfg(target_arch = "x86_64")]
pub fn missing() -> Option<&'static str> {
    use std::arch::x86_64::{__cpuid, __cpuid_count, _xgetbv};
    // `is_x86_feature_detected!` would answer as it was compiled, without asking.
    let bit = |register: u32, bit: u32| register >> bit & 1 == 1;
    if !cfg!(target_feature = "avx2") {
        return None;
    }
    let basic = __cpuid(1);
    let extended = if __cpuid(0).eax >= 7 { __cpuid_count(7, 0) } else { return Some("AVX2") };
    // Bit 27: the system saves the registers; then register 0 says which.
    let saves_wide = bit(basic.ecx, 27) && {
        // SAFETY: bit 27 says that the instruction is there.
        unsafe { xgetbv0() & 6 == 6 }
    };
    #[target_feature(enable = "xsave")]
    unsafe fn xgetbv0() -> u64 {
        // SAFETY: the caller has seen that the instruction is there.
        unsafe { _xgetbv(0) }
    }
    let wanted = [
        (bit(basic.ecx, 1), "PCLMULQDQ"),
        (bit(basic.ecx, 12), "FMA"),
        (bit(basic.ecx, 20), "SSE4.2"),
        (bit(basic.ecx, 22), "MOVBE"),
        (bit(basic.ecx, 23), "POPCNT"),
        (bit(basic.ecx, 29), "F16C"),
        (saves_wide && bit(basic.ecx, 28), "AVX"),
        (bit(extended.ebx, 3), "BMI1"),
        (bit(extended.ebx, 5), "AVX2"),
        (bit(extended.ebx, 8), "BMI2"),
    ];
    wanted.into_iter().find(|(there, _)| !there).map(|(_, name)| name)
}

#[cfg(not(target_arch = "x86_64"))]
pub fn missing() -> Option<&'static str> {
    None
}

//! Which vector instructions are used: chosen once, at run time.

/// Instruction sets told apart, the better ones later.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Machine {
    /// None: the definition.
    Portable,
    /// x86-64 with AVX2.
    #[cfg(target_arch = "x86_64")]
    Avx2,
    /// x86-64 with AVX-512 (BW and VL).
    #[cfg(target_arch = "x86_64")]
    Avx512,
    /// The same with dot products of bytes.
    #[cfg(target_arch = "x86_64")]
    Avx512Vnni,
    /// aarch64: all have NEON.
    #[cfg(target_arch = "aarch64")]
    Neon,
    /// The same with dot products of bytes.
    #[cfg(target_arch = "aarch64")]
    NeonDotprod,
}

impl Machine {
    /// All of this architecture.
    #[cfg(target_arch = "x86_64")]
    pub const ALL: &[Self] = &[Self::Portable, Self::Avx2, Self::Avx512, Self::Avx512Vnni];
    /// All of this architecture.
    #[cfg(target_arch = "aarch64")]
    pub const ALL: &[Self] = &[Self::Portable, Self::Neon, Self::NeonDotprod];
    /// All of this architecture.
    #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
    pub const ALL: &[Self] = &[Self::Portable];

    /// Its name, which `TINTIN_KERNELS` takes.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Portable => "portable",
            #[cfg(target_arch = "x86_64")]
            Self::Avx2 => "avx2",
            #[cfg(target_arch = "x86_64")]
            Self::Avx512 => "avx512",
            #[cfg(target_arch = "x86_64")]
            Self::Avx512Vnni => "avx512vnni",
            #[cfg(target_arch = "aarch64")]
            Self::Neon => "neon",
            #[cfg(target_arch = "aarch64")]
            Self::NeonDotprod => "neon-dotprod",
        }
    }

    /// Whether this computer has it.
    pub fn is_present(self) -> bool {
        match self {
            Self::Portable => true,
            #[cfg(target_arch = "x86_64")]
            Self::Avx2 => std::is_x86_feature_detected!("avx2"),
            #[cfg(target_arch = "x86_64")]
            Self::Avx512 => std::is_x86_feature_detected!("avx512bw") && std::is_x86_feature_detected!("avx512vl"),
            #[cfg(target_arch = "x86_64")]
            Self::Avx512Vnni => Self::Avx512.is_present() && std::is_x86_feature_detected!("avx512vnni"),
            #[cfg(target_arch = "aarch64")]
            Self::Neon => std::arch::is_aarch64_feature_detected!("neon"),
            #[cfg(target_arch = "aarch64")]
            Self::NeonDotprod => std::arch::is_aarch64_feature_detected!("dotprod"),
        }
    }
}

/// The machine in use: the best present, or the one that `TINTIN_KERNELS` names, if it is present.
pub fn machine() -> Machine {
    static CHOICE: std::sync::OnceLock<Machine> = std::sync::OnceLock::new();
    *CHOICE.get_or_init(|| {
        let present = || Machine::ALL.iter().rev().copied().filter(|machine| machine.is_present());
        let asked = std::env::var("TINTIN_KERNELS").unwrap_or_default();
        present().find(|machine| machine.name() == asked).or_else(|| present().next()).unwrap_or(Machine::Portable)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Tells which: scripts/aarch64.sh reads it.
    #[test]
    fn the_machine_asked_for_is_in_use_or_else_the_best() {
        let (used, asked) = (machine(), std::env::var("TINTIN_KERNELS").unwrap_or_default());
        let named = Machine::ALL.iter().find(|machine| machine.name() == asked && machine.is_present());
        let best = Machine::ALL.iter().rfind(|machine| machine.is_present());
        assert_eq!(Some(&used), named.or(best));
        std::println!("kernels: {}", used.name());
    }
}

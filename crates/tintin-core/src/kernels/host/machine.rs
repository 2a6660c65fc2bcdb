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
}

impl Machine {
    /// All of this architecture.
    #[cfg(target_arch = "x86_64")]
    pub const ALL: &[Self] = &[Self::Portable, Self::Avx2, Self::Avx512, Self::Avx512Vnni];
    /// All of this architecture.
    #[cfg(not(target_arch = "x86_64"))]
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

//! Runs a kernel compiled for the widest vectors that the processor has.
//!
//! A kernel is ordinary safe Rust whose loops the compiler vectorizes. It is compiled once per level (plain, AVX2,
//! AVX-512) and picked at run time, so one binary serves every x86-64; other architectures have the plain level only.
//! No level contracts a product and a sum into a fused operation (`mul_add` is fused on all of them, in software where
//! the processor cannot), so all of them give the same bits.
#![expect(unsafe_code, reason = "calling a function compiled for instructions that were just detected")]

/// Work that is compiled once per level. `run` and all it calls per element must be `#[inline(always)]`.
pub(crate) trait Kernel {
    /// What the work gives.
    type Output;

    /// Does the work.
    fn run(self) -> Self::Output;
}

/// A set of vector instructions, from least to most.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Level {
    /// What every processor of the architecture has.
    Plain,
    /// x86-64 with AVX2, FMA and BMI1, as every processor with AVX2 has them.
    #[cfg(target_arch = "x86_64")]
    Avx2,
    /// The same with AVX-512 F, BW, DQ and VL.
    #[cfg(target_arch = "x86_64")]
    Avx512,
}

impl Level {
    /// Every level of the architecture.
    #[cfg(test)]
    pub(crate) const ALL: &'static [Level] = &[
        Level::Plain,
        #[cfg(target_arch = "x86_64")]
        Level::Avx2,
        #[cfg(target_arch = "x86_64")]
        Level::Avx512,
    ];

    /// Whether this processor has it. The answer is remembered by the standard library.
    pub(crate) fn is_available(self) -> bool {
        match self {
            Level::Plain => true,
            #[cfg(target_arch = "x86_64")]
            Level::Avx2 => {
                std::arch::is_x86_feature_detected!("avx2")
                    && std::arch::is_x86_feature_detected!("fma")
                    && std::arch::is_x86_feature_detected!("bmi1")
            }
            #[cfg(target_arch = "x86_64")]
            Level::Avx512 => {
                Level::Avx2.is_available()
                    && std::arch::is_x86_feature_detected!("avx512f")
                    && std::arch::is_x86_feature_detected!("avx512bw")
                    && std::arch::is_x86_feature_detected!("avx512dq")
                    && std::arch::is_x86_feature_detected!("avx512vl")
            }
        }
    }

    /// The most this processor has.
    pub(crate) fn best() -> Level {
        #[cfg(target_arch = "x86_64")]
        for level in [Level::Avx512, Level::Avx2] {
            if level.is_available() {
                return level;
            }
        }
        Level::Plain
    }
}

/// Runs `kernel` at the best level of this processor.
pub(crate) fn dispatch<K: Kernel>(kernel: K) -> K::Output {
    #[cfg(test)]
    if let Some(level) = FORCED.get() {
        return dispatch_at(level, kernel);
    }
    dispatch_at(Level::best(), kernel)
}

#[cfg(test)]
thread_local! {
    static FORCED: std::cell::Cell<Option<Level>> = const { std::cell::Cell::new(None) };
}

/// Runs `work` with every kernel of this thread at `level`.
#[cfg(test)]
pub(crate) fn with_level<T>(level: Level, work: impl FnOnce() -> T) -> T {
    let before = FORCED.replace(Some(level));
    let result = work();
    FORCED.set(before);
    result
}

/// Runs `kernel` at `level`, or plainly where the processor does not have it.
fn dispatch_at<K: Kernel>(level: Level, kernel: K) -> K::Output {
    match level {
        #[cfg(target_arch = "x86_64")]
        // SAFETY: the features that `avx2` is compiled for were detected on this processor just now.
        Level::Avx2 if level.is_available() => unsafe { avx2(kernel) },
        #[cfg(target_arch = "x86_64")]
        // SAFETY: the features that `avx512` is compiled for were detected on this processor just now.
        Level::Avx512 if level.is_available() => unsafe { avx512(kernel) },
        _ => kernel.run(),
    }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma,bmi1")]
fn avx2<K: Kernel>(kernel: K) -> K::Output {
    kernel.run()
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma,bmi1,avx512f,avx512bw,avx512dq,avx512vl")]
fn avx512<K: Kernel>(kernel: K) -> K::Output {
    kernel.run()
}

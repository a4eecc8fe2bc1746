//! Whatever comes, the sums hold.

//! Cases of `io_tcp` are files; what its connections do is tested beside `net`.

#[tokio::test(start_paused = true)]
async fn cases() {
    crate::tests::harness::check_cases("io_tcp").await;
}

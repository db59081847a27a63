# SoftHSM reads SOFTHSM2_CONF from the C environment, which System.put_env does not reach: the tests
# run in a VM that was started with it.
unless System.get_env("CRYPTOKI_TEST_TOKENS") do
  Cryptoki.Test.SoftHSM.restart_with_tokens()
end

Cryptoki.Test.SoftHSM.prepare()
Cryptoki.Test.FaultyModule.build()

# For bin/test, which adds up the tests of ExUnit and of cargo.
if file = System.get_env("CRYPTOKI_TEST_COUNTS") do
  ExUnit.after_suite(fn %{total: total, failures: failures, skipped: skipped, excluded: excluded} ->
    File.write!(
      file,
      "#{total - failures - skipped - excluded} #{failures} #{skipped + excluded}\n"
    )
  end)
end

# Minutes of work, and builds of their own: `bin/test --safety`.
# What is awaited comes, however busy the machine is.
ExUnit.start(capture_log: true, exclude: [:safety], assert_receive_timeout: 10_000)

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

# What a test logs is shown when it fails; what is logged between tests, as in setup_all, would stand among the dots.
if Version.match?(System.version(), ">= 1.15.0") do
  :ok = :logger.set_handler_config(:default, :level, :none)
else
  {:ok, nowhere} = StringIO.open("")
  true = Process.register(nowhere, Cryptoki.Test.Nowhere)
  :ok = apply(Logger, :configure_backend, [:console, [device: Cryptoki.Test.Nowhere]])
end

# Minutes of work, and builds of their own: `bin/test --safety`.
# What is awaited comes, however busy the machine is.
formatters = [ExUnit.CLIFormatter, Cryptoki.Test.Reasons]

ExUnit.start(
  capture_log: true,
  exclude: [:safety],
  assert_receive_timeout: 30_000,
  timeout: 300_000,
  formatters: formatters
)

defmodule Cryptoki.Testing do
  alias Cryptoki.{Error, Type}
  alias Cryptoki.Options.Table
  alias Cryptoki.Testing.SoftHSM

  @text "a string of 4 to 255 bytes"
  @table [
    label: [
      cast: &__MODULE__.label/1,
      type: "String.t()",
      must: "a string of 1 to 32 bytes on one line",
      doc:
        "the label of the token. Without it one that no other has: then tests can run beside each other"
    ],
    pin: [
      cast: &__MODULE__.pin/1,
      secret: true,
      type: "String.t()",
      must: @text,
      doc: "the user's PIN; without it eight digits by chance"
    ],
    so_pin: [
      cast: &__MODULE__.pin/1,
      secret: true,
      type: "String.t()",
      must: @text,
      doc: "the security officer's PIN; without it eight digits by chance"
    ],
    library: [
      cast: :line,
      type: "Path.t()",
      must: "a path",
      doc:
        "SoftHSM, or a library in front of it; without it `libsofthsm2.so` is looked for where systems have it"
    ]
  ]

  @moduledoc """
  A token for the tests of your own application: made in SoftHSM, gone when it is stopped.

      setup do
        token = start_supervised!(Cryptoki.Testing)
        hsm = start_supervised!({Cryptoki, Cryptoki.Testing.options(token)})
        %{hsm: hsm}
      end

      test "signs", %{hsm: hsm} do
        {:ok, _pair} = Cryptoki.generate_key_pair(hsm, :ec_key_pair_gen, label: "k", curve: :secp256r1)
        assert {:ok, _signature} = Cryptoki.sign(hsm, [label: "k"], :ecdsa_sha256, "data")
      end

  ExUnit stops what a test has started in reverse order: the instance first, then the token. Each
  token has a slot, objects and a login of its own, so that such tests can be `async: true`.

  SoftHSM has to be installed, and its configuration has to be there before the VM starts: run the tests with
  `SOFTHSM2_CONF` set to a path. A file that is not there is written, with a directory for its tokens beside it.
  `System.put_env/2` is too late: it does not reach C. `guides/testing.md` has all of it: one token for a whole
  run, CI, and libraries that fail on command.

  It does not depend on ExUnit, and works under any supervisor or Common Test.

  ## Options

  #{Table.docs(@table)}
  """

  use GenServer

  @typedoc "A running token, by its pid."
  @type token :: pid

  @type option :: unquote(Table.type(@table))

  @doc """
  Makes a token, and removes it when the process is stopped.

  Errors: `:library_not_loaded` when there is no SoftHSM, or no configuration that it can read;
  `:token_ambiguous` when there is a token with this label already; `:unsupported` when the library is not
  SoftHSM: nothing was touched then. A wrong option raises `ArgumentError`. PKCS #11 v3.2, sections 5.5.7
  (C_InitToken) and 5.5.8 (C_InitPIN).

      {:ok, token} = Cryptoki.Testing.start_link(label: "payments", pin: "123456")
  """
  @spec start_link([option]) :: {:ok, token} | {:error, Error.t()}
  def start_link(options \\ []) do
    options = Table.cast!(options, @table, "option")

    with {:ok, made} <- SoftHSM.make(defaults(options)),
         do: GenServer.start_link(__MODULE__, made)
  end

  @doc """
  The child of a supervisor, which does not start it again: that would be another token.

      iex> Cryptoki.Testing.child_spec(label: "payments").restart
      :temporary
  """
  @spec child_spec([option]) :: Supervisor.child_spec()
  def child_spec(options),
    do: %{id: __MODULE__, start: {__MODULE__, :start_link, [options]}, restart: :temporary}

  @doc """
  The options with which `Cryptoki.start_link/1` starts an instance on the token, with others beside
  them or in place of them. An instance has 60 seconds for a call: machines that run tests are slow.

      hsm = start_supervised!({Cryptoki, Cryptoki.Testing.options(token, name: MyApp.HSM, sessions: 1)})
  """
  @spec options(token, keyword) :: keyword
  def options(token, more \\ []) do
    unless Keyword.keyword?(more),
      do: raise(ArgumentError, "options are a keyword list, got: #{Type.of(more)}")

    token |> GenServer.call(:options) |> Keyword.merge(more)
  end

  defp defaults(options) do
    unique = Base.encode16(:crypto.strong_rand_bytes(8), case: :lower)
    given = for {name, value} <- options, value != nil, into: %{}, do: {name, value}
    Map.merge(%{label: "testing-#{unique}", pin: digits(), so_pin: digits()}, given)
  end

  defp digits, do: for(_ <- 1..8, into: "", do: "#{:rand.uniform(10) - 1}")

  @doc false
  def label(text), do: with({:ok, text} <- Table.cast(:line, text), do: sized(text, 1..32))

  @doc false
  def pin(text), do: is_binary(text) and String.valid?(text) and sized(text, 4..255)

  defp sized(text, sizes), do: byte_size(text) in sizes and {:ok, text}

  ## The process

  @impl true
  def init(made) do
    # So that terminate/2 is called when the supervisor stops it.
    Process.flag(:trap_exit, true)
    {:ok, made}
  end

  @impl true
  def handle_call(:options, _from, made), do: {:reply, made.options, made}

  @impl true
  def terminate(_reason, made), do: SoftHSM.remove(made)
end

defmodule Cryptoki.Test.Token do
  @moduledoc false
  # The tokens that the referee tests run on, and what came of it.
  #
  # SoftHSM is always there, with a token and a copy of the library of its own: logins of other tests do
  # not reach it. The others are there when the script of their name in test/support/tokens has said
  # so in the environment. Each is made once a run, when all/0 is called first.

  alias Cryptoki.Test.{SoftHSM, TokenReport}

  @label "referee"
  @whole [:softhsm2, :kryoptic]

  @enforce_keys [:name, :library]
  defstruct [
    :name,
    :title,
    :library,
    :init_args,
    label: @label,
    environment: [],
    mechanisms: %{},
    skip: false
  ]

  @typedoc """
  `environment` is what other programs need to see the same token; `mechanisms` has the token's own
  list, each with the functions it is for; `skip` says why nothing runs on one that is not there.
  """
  @type t :: %__MODULE__{
          name: atom,
          title: String.t() | nil,
          library: Path.t(),
          init_args: String.t() | nil,
          label: String.t(),
          environment: [{String.t(), String.t()}],
          mechanisms: %{(atom | non_neg_integer) => [atom]},
          skip: false | String.t()
        }

  @typedoc "Mechanisms, alone or with functions: `[:sha256, aes_cbc: :encrypt, ecdsa: [:sign, :verify]]`."
  @type needs :: [atom | {atom, atom | [atom]}]

  @doc """
  The tokens of this run: every one, or those on which the whole of the referee tests runs. The others
  take no keys from outside, or break the rules of the standard in more places than can be listed.
  """
  @spec all(:every | :whole) :: [t]
  def all(which \\ :whole) do
    tokens = Agent.get(results(), & &1.tokens, :infinity)
    if which == :every, do: tokens, else: Enum.filter(tokens, &(&1.name in @whole))
  end

  @doc "The start options of an instance on the token."
  @spec options(t, keyword) :: keyword
  def options(%__MODULE__{} = token, more \\ []) do
    [library: token.library, token: [label: token.label], pin: &SoftHSM.pin/0, timeout: 60_000]
    |> Keyword.merge(if token.init_args, do: [init_args: token.init_args], else: [])
    |> Keyword.merge(isolation(token))
    |> Keyword.merge(more)
  end

  # OTP's :crypto loads OpenSSL's legacy provider, by which SoftHSM has DES in the VM; a process of its own has to be told.
  defp isolation(%{name: :softhsm2}) do
    with [_process] = isolation <- SoftHSM.isolation(),
         do: [env: %{"OPENSSL_CONF" => Path.join(__DIR__, "openssl_legacy.cnf")}] ++ isolation
  end

  defp isolation(_token), do: SoftHSM.isolation()

  @doc "What the token lacks of `needs`, as its own list of mechanisms has it."
  @spec missing(t, needs) :: needs
  def missing(%__MODULE__{mechanisms: mechanisms}, needs) do
    Enum.reject(needs, fn
      {mechanism, functions} -> List.wrap(functions) -- Map.get(mechanisms, mechanism, []) == []
      mechanism -> is_map_key(mechanisms, mechanism)
    end)
  end

  @doc "Whether the token has a mechanism, for a function when one is given."
  @spec has?(t, atom, atom | nil) :: boolean
  def has?(token, mechanism, function \\ nil),
    do: missing(token, [if(function, do: {mechanism, function}, else: mechanism)]) == []

  @doc """
  The tokens that have a mechanism for a function; or, where no token of this run does, one that is not there,
  with `skip` to say so: what is written for it is compiled and counted all the same.
  """
  @spec having(atom, atom) :: [t, ...]
  def having(mechanism, function) do
    with [] <- Enum.filter(all(), &has?(&1, mechanism, function)),
         do: [absent([{mechanism, function}])]
  end

  @doc "The token of this name, or one that is not there."
  @spec named(atom) :: t
  def named(name),
    do: Enum.find(all(:every), absent(name), &(&1.name == name))

  @doc "One that is not there, for what is missing."
  @spec absent(needs | atom) :: t
  def absent(what) do
    skip =
      if is_atom(what), do: "no token #{what} here", else: "no token here has #{inspect(what)}"

    %__MODULE__{name: :absent, title: "no token", library: "", skip: skip}
  end

  ## What came of it

  @doc "A test has passed that needs these mechanisms; or it was left out, or the token refused."
  @spec record(t, :checked | :lacks | {:refuses, String.t(), String.t()}, needs) :: :ok
  def record(token, what, needs), do: add(:results, {token.name, what, needs})

  @doc "A module of referee tests takes part: what is known is complete when all do."
  @spec takes_part(module) :: :ok
  def takes_part(module), do: add(:modules, module)

  # The first of all callers may find the tokens still being made.
  defp add(list, item),
    do: Agent.update(results(), &Map.update!(&1, list, fn all -> [item | all] end), :infinity)

  # Not linked: it outlives the process that compiles the first of the test files.
  defp results do
    case Process.whereis(__MODULE__) ||
           Agent.start(&prepare/0, name: __MODULE__, timeout: :infinity) do
      {:ok, pid} -> pid
      {:error, {:already_started, pid}} -> pid
      {:error, reason} -> exit(reason)
      pid -> pid
    end
  end

  defp prepare do
    ExUnit.after_suite(fn _counts -> TokenReport.publish(Agent.get(__MODULE__, & &1)) end)

    others =
      for {name, make} <- [
            kryoptic: &kryoptic(&1, "kryoptic"),
            nss: &nss/1,
            opencryptoki: &%__MODULE__{name: :opencryptoki, library: &1},
            tpm2: &%__MODULE__{name: :tpm2, library: &1}
          ],
          library = library(name),
          do: make.(library)

    {tokens, _log} =
      ExUnit.CaptureLog.with_log(fn -> Enum.map([soft_hsm() | others], &with_facts/1) end)

    %{tokens: tokens, results: [], modules: []}
  end

  ## The tokens

  defp soft_hsm do
    SoftHSM.create(@label)
    %__MODULE__{name: :softhsm2, library: SoftHSM.library_copy("referee-softhsm2.so")}
  end

  @doc "The library that is to be used for a token, if there is one."
  @spec library(atom) :: Path.t() | nil
  def library(name) do
    case System.get_env("CRYPTOKI_TEST_#{String.upcase("#{name}")}", "") do
      "" -> nil
      library -> library
    end
  end

  # A library stays loaded, and each OpenSSL keeps 4 of the 1024 keys for thread-local data that a process has; a VM of
  # OTP 27 has more of its own than one of 25.
  @kryoptic_limit 240

  @doc "Tokens of Kryoptic with a directory, and a copy of the library, of their own."
  @spec own_kryoptic(String.t(), [String.t() | nil]) :: t
  def own_kryoptic(name, labels \\ [@label]) do
    library = Path.join(SoftHSM.directory(), "#{name}-kryoptic.so")
    copy_kryoptic(library)
    kryoptic(library, name, labels)
  end

  @doc "Puts a copy of Kryoptic's library there, as long as this VM has room for one more."
  @spec copy_kryoptic(Path.t()) :: :ok
  def copy_kryoptic(to) do
    if loaded_kryoptic() >= @kryoptic_limit do
      raise "this VM has loaded #{@kryoptic_limit} copies of Kryoptic, and one more makes no key pairs " <>
              "(CKR_DEVICE_ERROR): run fewer test files in one VM"
    end

    File.cp!(library(:kryoptic), to)
  end

  # Linux tells what is loaded; elsewhere it is not known.
  defp loaded_kryoptic do
    case File.read("/proc/self/maps") do
      {:ok, maps} ->
        ~r/\S+(-kryoptic|-target)\.so$/m |> Regex.scan(maps) |> Enum.uniq() |> length()

      {:error, _none} ->
        0
    end
  end

  # OpenSC cannot hand over the configuration; p11-kit in front of it can.
  defp nss(library) do
    init_args = System.fetch_env!("CRYPTOKI_TEST_NSS_ARGS")
    %__MODULE__{name: :nss, library: library, init_args: init_args}
  end

  @doc """
  Tokens of Kryoptic with a directory of their own, for the library or one in front of it; nil for a slot
  whose token nobody has initialised.
  """
  @spec kryoptic(Path.t(), String.t(), [String.t() | nil]) :: t
  def kryoptic(library, name, labels \\ [@label]) do
    directory = Path.join(SoftHSM.directory(), name)
    File.mkdir_p!(directory)
    configuration = Path.join(directory, "kryoptic.conf")
    slots = Enum.with_index(labels, 1)

    File.write!(configuration, [
      "[ec_point_encoding]\nencoding = \"Der\"\n",
      for {_label, slot} <- slots do
        """

        [[slots]]
        slot = #{slot}
        dbtype = "sqlite"
        dbargs = "#{directory}/token-#{slot}.sql"
        """
      end
    ])

    init_args = "kryoptic_conf=" <> configuration
    place = [library: library, init_args: init_args, so_pin: SoftHSM.so_pin(), timeout: 60_000]

    for {label, slot} <- slots, label do
      :ok = Cryptoki.Token.init(slot, [label: label] ++ place)
      :ok = Cryptoki.Token.init_pin(slot, [pin: SoftHSM.pin()] ++ place)
    end

    %__MODULE__{
      name: :kryoptic,
      library: library,
      init_args: init_args,
      environment: [{"KRYOPTIC_CONF", configuration}],
      label: hd(labels)
    }
  end

  defp with_facts(token) do
    {:ok, hsm} = Cryptoki.start_link(options(token, sessions: 1))
    {major, minor} = version(hsm)

    mechanisms =
      for mechanism <- Cryptoki.mechanisms!(hsm), into: %{} do
        {mechanism, Cryptoki.mechanism_info!(hsm, mechanism).flags}
      end

    :ok = Cryptoki.stop(hsm)
    %{token | title: "#{title(token.name)} #{major}.#{minor}", mechanisms: mechanisms}
  end

  # Software has no firmware, and some say so.
  defp version(hsm) do
    with {0, 0} <- Cryptoki.token_info!(hsm).firmware_version,
         do: Cryptoki.library_info!(hsm).version
  end

  defp title(:softhsm2), do: "SoftHSM2"
  defp title(:kryoptic), do: "Kryoptic"
  defp title(:nss), do: "NSS"
  defp title(:opencryptoki), do: "opencryptoki"
  defp title(:tpm2), do: "TPM 2"
end

defmodule Cryptoki.Test.MainToken do
  @moduledoc false
  # The tokens that the tests of the library itself run on: those of SoftHSM.labels/0 on SoftHSM, or the
  # same on Kryoptic when CRYPTOKI_TEST_MAIN_TOKEN says `kryoptic`.

  alias Cryptoki.Test.{SoftHSM, Token}

  @type name :: :softhsm2 | :kryoptic

  @spec name :: name
  def name do
    case System.get_env("CRYPTOKI_TEST_MAIN_TOKEN", "") do
      "kryoptic" -> :kryoptic
      "" -> :softhsm2
    end
  end

  @doc "Start options for one of them, `label:` or the first."
  @spec options(keyword) :: keyword
  def options(more \\ []), do: SoftHSM.options(Keyword.merge(place(name()), more))

  @doc "Start options for one token more, in a library of its own: what happens to it reaches no other test."
  @spec own(keyword) :: keyword
  def own(more \\ []) do
    {label, more} = Keyword.pop(more, :label, "token-#{System.unique_integer([:positive])}")
    SoftHSM.options([label: label] ++ make(name(), label) ++ more)
  end

  @doc "Where a token can be made: a library of its own, with a slot that is free."
  @spec free :: keyword
  def free do
    case name() do
      :softhsm2 -> [library: SoftHSM.library_copy()]
      :kryoptic -> kryoptic("free-#{System.unique_integer([:positive])}", [nil])
    end
  end

  @doc "Tokens for programs started by a test, and a free slot: their library, and what goes into the environment."
  @spec outside(Path.t(), [String.t()]) :: {Path.t(), [{String.t(), String.t()}]}
  def outside(directory, labels) do
    case name() do
      :softhsm2 ->
        configuration = SoftHSM.configuration(directory)
        for label <- labels, do: SoftHSM.create(label, configuration)
        {SoftHSM.library(), [{"SOFTHSM2_CONF", configuration}]}

      :kryoptic ->
        place = kryoptic(Path.basename(directory), labels ++ [nil])
        {place[:library], environment(place)}
    end
  end

  @doc "What a VM started by a test needs in its environment to see the tokens of these options."
  @spec environment(keyword) :: [{String.t(), String.t()}]
  def environment(options) do
    case options[:init_args] do
      nil -> []
      "kryoptic_conf=" <> file -> [{"KRYOPTIC_CONF", file}]
    end
  end

  @doc "The first of them as a URI with library and PIN; how its library is initialised goes beside it."
  @spec uri :: binary
  def uri, do: SoftHSM.uri(SoftHSM.label(), options()[:library])

  @spec initialized :: keyword
  def initialized, do: Keyword.take(options(), [:init_args])

  @doc "Why a test is left out, for `@tag skip:`, when the main token is this one."
  @spec lacks(name, String.t()) :: false | String.t()
  def lacks(name, why), do: name() == name && why

  @doc "The same where each instance has a library of its own, in a process."
  @spec apart(String.t()) :: false | String.t()
  def apart(why), do: SoftHSM.isolation() != [] and "with isolation: :process #{why}"

  @doc "The same where that is one token's affair."
  @spec apart(name, String.t()) :: false | String.t()
  def apart(name, why), do: lacks(name, why) && apart(why)

  # Kryoptic has the curves of NIST from 256 bits on and those of Edwards and Montgomery.
  @kryoptic_lacks ~w(secp224r1 secp256k1 brainpoolP256r1 brainpoolP384r1 brainpoolP512r1)a

  @doc "The same for the kind of a key, as KeyPairs.make/2 has them."
  @spec lacks_key(atom) :: false | String.t()
  def lacks_key(kind), do: kind in @kryoptic_lacks and lacks(:kryoptic, "it has no #{kind}")

  @doc "`System.cmd/3` with pkcs11-tool on the first of them."
  @spec pkcs11_tool([String.t()]) :: {String.t(), non_neg_integer}
  def pkcs11_tool(arguments) do
    options = options()
    place = ~w(--module #{options[:library]} --token-label #{SoftHSM.label()})
    opts = [stderr_to_stdout: true, env: environment(options)]
    System.cmd("pkcs11-tool", place ++ arguments, opts)
  end

  defp place(:softhsm2), do: []

  # Made once a run, by whichever test comes first.
  defp place(:kryoptic) do
    :global.trans({__MODULE__, self()}, fn ->
      with nil <- :persistent_term.get(__MODULE__, nil) do
        place = kryoptic("main", SoftHSM.labels())
        :persistent_term.put(__MODULE__, place)
        place
      end
    end)
  end

  defp make(:softhsm2, label) do
    SoftHSM.create(label)
    [library: SoftHSM.library_copy()]
  end

  defp make(:kryoptic, label),
    do: kryoptic("own-#{System.unique_integer([:positive])}", [label])

  defp kryoptic(name, labels) do
    %{library: library, init_args: init_args} = Token.own_kryoptic(name, labels)
    [library: library, init_args: init_args]
  end
end

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

  @doc "The first of them as a URI with library and PIN; how its library is initialised goes beside it."
  @spec uri :: binary
  def uri, do: SoftHSM.uri(SoftHSM.label(), options()[:library])

  @spec initialized :: keyword
  def initialized, do: Keyword.take(options(), [:init_args])

  @doc "Why a test is left out, for `@tag skip:`, when the main token is this one."
  @spec lacks(name, String.t()) :: false | String.t()
  def lacks(name, why), do: name() == name && why

  # Kryoptic has the curves of NIST and those of Edwards and Montgomery.
  @kryoptic_lacks ~w(secp256k1 brainpoolP256r1 brainpoolP384r1 brainpoolP512r1)a

  @doc "The same for the kind of a key, as KeyPairs.make/2 has them."
  @spec lacks_key(atom) :: false | String.t()
  def lacks_key(kind), do: kind in @kryoptic_lacks and lacks(:kryoptic, "it has no #{kind}")

  @doc "`System.cmd/3` with pkcs11-tool on the first of them."
  @spec pkcs11_tool([String.t()]) :: {String.t(), non_neg_integer}
  def pkcs11_tool(arguments) do
    options = options()
    environment = environment(options[:init_args])
    place = ~w(--module #{options[:library]} --token-label #{SoftHSM.label()})
    opts = [stderr_to_stdout: true, env: environment]
    System.cmd("pkcs11-tool", place ++ arguments, opts)
  end

  defp environment(nil), do: []
  defp environment("kryoptic_conf=" <> file), do: [{"KRYOPTIC_CONF", file}]

  defp place(:softhsm2), do: []

  # Made once a run, by whichever test comes first.
  defp place(:kryoptic) do
    :global.trans({__MODULE__, self()}, fn ->
      with nil <- :persistent_term.get(__MODULE__, nil) do
        library = Path.join(SoftHSM.directory(), "main-kryoptic.so")
        File.cp!(Token.library(:kryoptic), library)
        token = Token.kryoptic(library, "main", SoftHSM.labels())
        place = [library: library, init_args: token.init_args]
        :persistent_term.put(__MODULE__, place)
        place
      end
    end)
  end
end

defmodule Cryptoki.Test.Vectors.Signatures do
  @moduledoc false
  # Plans for the families of signatures: the key of a group, and the ways to verify with it.

  alias Cryptoki.Attribute.Curve
  alias Cryptoki.Names
  alias Cryptoki.Test.{Outside, Token}
  alias Cryptoki.Test.Vectors.{Probe, Ways}

  @hashes %{
    "SHA-1" => :sha1,
    "SHA-224" => :sha224,
    "SHA-256" => :sha256,
    "SHA-384" => :sha384,
    "SHA-512" => :sha512,
    "SHA-512/224" => :sha512_224,
    "SHA-512/256" => :sha512_256,
    "SHA3-224" => :sha3_224,
    "SHA3-256" => :sha3_256,
    "SHA3-384" => :sha3_384,
    "SHA3-512" => :sha3_512
  }

  # The last number of 2.16.840.1.101.3.4.2.
  @digest_info %{
    sha256: 1,
    sha384: 2,
    sha512: 3,
    sha224: 4,
    sha512_224: 5,
    sha512_256: 6,
    sha3_224: 7,
    sha3_256: 8,
    sha3_384: 9,
    sha3_512: 10
  }

  @doc "The hash as mechanisms are called after it, or nil for one that PKCS #11 does not have there."
  @spec hash(String.t()) :: atom | nil
  def hash(name), do: @hashes[name]

  @doc "ECDSA, in the form that the test has: `:der` or `:raw`."
  @spec ecdsa(map, map, :der | :raw) :: map | {:not_run, String.t()}
  def ecdsa(place, %{"publicKey" => %{"curve" => curve} = public, "sha" => sha}, format) do
    curve = String.to_atom(curve)

    with :ok <- Probe.curve(place, curve),
         {:ok, hash} <- ecdsa_hash(sha) do
      mechanism = :"ecdsa_#{hash}"
      point = Base.decode16!(public["uncompressed"], case: :mixed)

      %{
        key: [
          class: :public_key,
          key_type: :ec,
          curve: curve,
          ec_point: Curve.wrap_point(point),
          verify: true
        ],
        ways:
          Ways.verify(place.token, fn _test -> mechanism end,
            format: format,
            steps: Token.has?(place.token, mechanism)
          ) ++ [on_digest(:ecdsa, &Outside.hash(hash_name(hash), &1), format: format)]
      }
    end
  end

  defp ecdsa_hash(sha) do
    case @hashes[sha] do
      nil -> {:not_run, "no mechanism with #{sha}"}
      hash -> {:ok, hash}
    end
  end

  defp hash_name(:sha1), do: :sha_1
  defp hash_name(hash), do: hash

  defp on_digest(mechanism, digest, opts) do
    Ways.way(:on_digest, fn hsm, key, t ->
      Cryptoki.verify(hsm, key, mechanism, digest.(t["msg"]), t["sig"], opts)
    end)
  end

  @spec dsa(map, map) :: map | {:not_run, String.t()}
  def dsa(place, %{"publicKey" => public, "sha" => sha}) do
    mechanism = :"dsa_#{@hashes[sha]}"

    with :ok <- Probe.mechanisms(place, [{mechanism, :verify}]) do
      %{
        key: [
          class: :public_key,
          key_type: :dsa,
          prime: number(public["p"]),
          subprime: number(public["q"]),
          base: number(public["g"]),
          value: number(public["y"]),
          verify: true
        ],
        ways: Ways.verify(place.token, fn _test -> mechanism end)
      }
    end
  end

  @spec eddsa(map, map) :: map | {:not_run, String.t()}
  def eddsa(place, %{"publicKey" => %{"curve" => name, "pk" => point}}) do
    curve = %{"edwards25519" => :ed25519, "edwards448" => :ed448}[name]
    mechanism = if curve == :ed448, do: {:eddsa, prehash: false}, else: :eddsa

    with :ok <- Probe.mechanisms(place, eddsa: :verify),
         :ok <- Probe.curve(place, curve) do
      %{
        key: [
          class: :public_key,
          key_type: :ec_edwards,
          curve: curve,
          ec_point: Curve.wrap_point(Base.decode16!(point, case: :mixed)),
          verify: true
        ],
        ways:
          Ways.verify(place.token, fn _test -> mechanism end, pieces: Ways.newest?(place.token))
      }
    end
  end

  @spec rsa_pkcs1(map, map) :: map | {:not_run, String.t()}
  def rsa_pkcs1(place, %{"publicKey" => public, "sha" => sha}) do
    hash = @hashes[sha]
    named = named(place.token, :"#{hash}_rsa_pkcs")

    %{
      key: rsa_public(public),
      ways: named ++ [on_digest(:rsa_pkcs, &digest_info(hash, &1), [])]
    }
  end

  @spec rsa_pss(map, map) :: map | {:not_run, String.t()}
  def rsa_pss(place, %{"publicKey" => public, "sha" => sha, "mgf" => "MGF1"} = group) do
    {hash, mgf} = {@hashes[sha], @hashes[group["mgfSha"]]}

    cond do
      hash == nil or mgf == nil ->
        {:not_run, "no mechanism with #{sha}"}

      Names.code(:mgf, :"mgf1_#{mgf}") == :error ->
        {:not_run, "no mask generation with #{group["mgfSha"]}"}

      true ->
        arguments = [hash: hash_name(hash), mgf: :"mgf1_#{mgf}", salt_len: group["sLen"]]
        mechanism = :"#{hash}_rsa_pkcs_pss"
        digest = &Outside.hash(hash_name(hash), &1)

        %{
          key: rsa_public(public),
          ways:
            named(place.token, mechanism, arguments) ++
              [on_digest({:rsa_pkcs_pss, arguments}, digest, [])]
        }
    end
  end

  def rsa_pss(_place, %{"sha" => sha, "mgf" => mgf}),
    do: {:not_run, "no mechanism with #{sha} and #{mgf}"}

  # For a token that lacks the hash the library makes the digest, in verify/6.
  defp named(token, name, arguments \\ nil) do
    mechanism = if arguments, do: {name, arguments}, else: name

    if Names.code(:mechanism, name) == :error,
      do: [],
      else: Ways.verify(token, fn _test -> mechanism end, steps: Token.has?(token, name, :verify))
  end

  defp rsa_public(%{"modulus" => n, "publicExponent" => e}) do
    [
      class: :public_key,
      key_type: :rsa,
      modulus: number(n),
      public_exponent: number(e),
      verify: true
    ]
  end

  @doc "DigestInfo of RFC 8017, section 9.2."
  @spec digest_info(atom, binary) :: binary
  def digest_info(hash, data) do
    digest = Outside.hash(hash_name(hash), data)
    oid = <<6, 9, 0x60, 0x86, 0x48, 1, 0x65, 3, 4, 2, Map.fetch!(@digest_info, hash)>>
    size = byte_size(digest)
    <<0x30, size + 17, 0x30, 13, oid::binary, 5, 0, 4, size, digest::binary>>
  end

  @doc "A number as attributes have it, without leading zeros."
  @spec number(String.t()) :: binary
  def number(hex),
    do:
      hex
      |> Base.decode16!(case: :mixed)
      |> :binary.decode_unsigned()
      |> :binary.encode_unsigned()

  @sets %{"44" => :ml_dsa_44, "65" => :ml_dsa_65, "87" => :ml_dsa_87}

  @doc "ML-DSA, verifying."
  @spec ml_dsa_verify(map, map) :: map | {:not_run, String.t()}
  def ml_dsa_verify(place, %{"publicKey" => public} = group) do
    with :ok <- Probe.mechanisms(place, ml_dsa: :verify) do
      %{
        key:
          [class: :public_key, value: Base.decode16!(public, case: :mixed), verify: true] ++
            ml_dsa(group),
        ways: Ways.verify(place.token, &with_context(&1, []))
      }
    end
  end

  @doc "ML-DSA, signing without chance, with a key or with the seed of one."
  @spec ml_dsa_sign(map, map) :: map | {:not_run, String.t()}
  def ml_dsa_sign(place, group) do
    key =
      case group do
        %{"privateSeed" => seed} -> [seed: Base.decode16!(seed, case: :mixed)]
        %{"privateKey" => key} -> [value: Base.decode16!(key, case: :mixed)]
      end

    with :ok <- Probe.mechanisms(place, ml_dsa: :sign) do
      %{
        key: [class: :private_key, sign: true] ++ key ++ ml_dsa(group),
        only: &only_plain/1,
        ways:
          for {name, _which, ask, expected} <-
                Ways.sign(&with_context(&1, hedge: :deterministic_required)) do
            {name, :all, ask, expected}
          end
      }
    end
  end

  defp only_plain(%{"rnd" => _chance}), do: {:not_run, "the random number is the token's"}
  defp only_plain(%{"msg" => _}), do: :ok
  defp only_plain(_test), do: {:not_run, "mu comes from outside, which PKCS #11 does not have"}

  defp ml_dsa(group),
    do: [key_type: :ml_dsa, parameter_set: @sets[group["file"] |> String.slice(6, 2)]]

  defp with_context(test, arguments) do
    case {test["ctx"] || "", arguments} do
      {"", []} -> :ml_dsa
      {context, arguments} -> {:ml_dsa, [context: context] ++ arguments}
    end
  end
end

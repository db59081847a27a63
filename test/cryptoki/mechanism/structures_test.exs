# Every structure of the tables against the C structures of the crate cryptoki-sys: the same
# members, in the same order, of the same types, encoded from sample arguments.
defmodule Cryptoki.Mechanism.StructuresTest do
  use ExUnit.Case, async: true

  alias Cryptoki.Mechanism

  @tables [
    Mechanism.Cipher,
    Mechanism.Derivation,
    Mechanism.DiffieHellman,
    Mechanism.EllipticCurve,
    Mechanism.Historic,
    Mechanism.MAC,
    Mechanism.PostQuantum,
    Mechanism.Protocol,
    Mechanism.RSA,
    Mechanism.TLS
  ]

  # Parameters of the header that are not sent, and why.
  @left_out ~w[
    CK_ECDH2_DERIVE_PARAMS CK_AES_GCM_PARAMS CK_AES_CCM_PARAMS CK_PKCS5_PBKD2_PARAMS
    CK_GCM_MESSAGE_PARAMS CK_CCM_MESSAGE_PARAMS CK_SALSA20_CHACHA20_POLY1305_MSG_PARAMS
  ]a

  setup_all do
    {metadata, 0} =
      System.cmd("cargo", ~w[metadata --format-version 1 --manifest-path] ++ [manifest()],
        stderr_to_stdout: true
      )

    [_, crate] = Regex.run(~r{"manifest_path":"([^"]*/cryptoki-sys[^"/]*)/Cargo\.toml"}, metadata)
    source = File.read!(Path.join(crate, "src/bindings/x86_64-unknown-linux-gnu.rs"))

    structs =
      for [_, name, body] <- Regex.scan(~r/pub struct (CK_\w+) \{(.*?)\n\}/s, source),
          into: %{} do
        members = Regex.scan(~r/pub (\w+): ([^,]+),/, body)
        {name, for([_, member, type] <- members, do: {String.trim_trailing(member, "_"), type})}
      end

    aliases =
      for [_, name, type] <- Regex.scan(~r/pub type (CK_\w+) = (\w+);/, source),
          into: %{},
          do: {name, type}

    %{structs: structs, aliases: aliases}
  end

  defp all, do: Enum.flat_map(@tables, & &1.structures())

  test "the members are those of C", context do
    for structure <- all(), structure[:struct] != nil do
      mechanism = hd(structure[:mechanisms])
      {_, fields} = Mechanism.encode!({mechanism, arguments(structure)})
      compare(structure, fields, context)
    end
  end

  test "a length is that of the bytes its name belongs to" do
    checked =
      for table <- @tables, structure <- table.structures(), is_list(structure[:layout]) do
        {_, fields} = Mechanism.encode!({hd(structure[:mechanisms]), arguments(structure)})
        lengths(Enum.zip(names(structure[:layout]), fields), structure[:layout])
      end

    # Every structure with a pointer and a length has at least one such pair.
    assert Enum.sum(checked) > 60
  end

  test "so are those of structures within", context do
    nested =
      for table <- @tables,
          structure <- table.structures(),
          {_, {type, options}} <- structure[:arguments],
          inner <- if(type == :tagged, do: Keyword.values(options[:of]), else: [{type, options}]),
          {:struct, [{:of, inner} | _]} <- [inner],
          uniq: true,
          do: inner

    assert Enum.sort(Enum.map(nested, & &1[:struct])) ==
             ~w[CK_RSA_PKCS_OAEP_PARAMS CK_SP800_108_COUNTER_FORMAT CK_SP800_108_DKM_LENGTH_FORMAT]a

    for structure <- nested do
      given = Map.new(arguments(structure))
      compare(structure, Mechanism.Encoder.encode!(structure, given, "test", []), context)
    end
  end

  test "so are those the token fills in", context do
    for {mechanism, name} <- [
          tls12_key_and_mac_derive: "CK_SSL3_KEY_MAT_OUT",
          wtls_client_key_and_mac_derive: "CK_WTLS_KEY_MAT_OUT"
        ] do
      structure = Enum.find(all(), &(mechanism in &1[:mechanisms]))
      {_, fields} = Mechanism.encode!({mechanism, arguments(structure)})
      {:struct, out} = List.keyfind(fields, :struct, 0)
      layout = structure[:layout][:pReturnedKeyMaterial] |> elem(1)
      compare([struct: String.to_atom(name), layout: layout], out, context)
    end

    additional = [prf: 1, data: [], additional_keys: [[token: true], []]]
    {_, fields} = Mechanism.encode!({:sp800_108_counter_kdf, additional})

    for derived <- fields |> List.last() |> elem(1) do
      layout = [pTemplate: :_, ulAttributeCount: :_, phKey: :_]
      compare([struct: :CK_DERIVED_KEY, layout: layout], derived, context)
    end
  end

  test "every mechanism of the tables encodes, and the message for a wrong argument names both" do
    for table <- @tables, structure <- table.structures(), mechanism <- structure[:mechanisms] do
      assert {code, parameter} = Mechanism.encode!({mechanism, arguments(structure)})
      assert is_integer(code) and parameter != nil

      for {name, type} <- structure[:arguments] do
        alone = if excluded?(type), do: elem(type, 1)[:not_with]
        wrong = structure |> arguments() |> Keyword.delete(alone) |> Keyword.put(name, make_ref())
        error = assert_raise ArgumentError, fn -> Mechanism.encode!({mechanism, wrong}) end

        start = "mechanism #{inspect(mechanism)}: argument #{inspect(name)}: "
        assert String.starts_with?(Exception.message(error), start), Exception.message(error)
      end
    end
  end

  test "every parameter of the header is sent or left out on purpose", %{structs: structs} do
    known =
      for table <- @tables,
          structure <- table.structures(),
          into: MapSet.new(),
          do: "#{structure[:struct]}"

    inner =
      ~w[CK_PRF_DATA_PARAM CK_OTP_PARAM CK_SP800_108_COUNTER_FORMAT CK_SP800_108_DKM_LENGTH_FORMAT]

    for {name, _} <- structs, name =~ ~r/_PARAMS?2?$|STRING_DATA$|ADDITIONAL_CONTEXT$|_FORMAT$/ do
      assert name in known or name in inner or String.to_atom(name) in @left_out, name
    end
  end

  defp lengths(members, layout) do
    nested =
      for {{_, {:nested, inner}}, {_, {:nested, fields}}} <- Enum.zip(layout, members) do
        lengths(Enum.zip(names(inner), fields), inner)
      end

    pairs =
      for {"ul" <> name, {:ulong, length}} <- members,
          [_, stem, number] <- [Regex.run(~r/^(\w+)Len(?:gth)?(\d?)$/, name)],
          {pointer, {:bytes, bytes}} <- members,
          pointer in [stem <> number, "p" <> stem <> number] do
        assert {name, length} == {name, byte_size(bytes || "")}
      end

    length(pairs) + Enum.sum(nested)
  end

  defp compare(structure, fields, context) do
    name = Atom.to_string(structure[:struct])

    case context.structs[name] do
      nil ->
        # A typedef: one member of that type.
        assert {name, Enum.map(fields, &type/1)} == {name, [c_type(name, context)]}

      members ->
        assert {name, names(structure[:layout])} == {name, Enum.map(members, &elem(&1, 0))}
        assert {name, types(fields)} == {name, Enum.map(members, &c_type(elem(&1, 1), context))}
    end
  end

  defp names(layout), do: for({name, _} <- layout, do: Atom.to_string(name))

  defp types(fields), do: Enum.map(fields, &type/1)

  defp type({type, _}) when type in [:ulong, :handle, :new_handle], do: "CK_ULONG"
  defp type({:bool, _}), do: "CK_BBOOL"
  defp type({:byte, _}), do: "CK_BYTE"
  defp type({:inline, bytes}), do: "[CK_BYTE; #{byte_size(bytes)}usize]"
  defp type({:nested, fields}), do: types(fields)
  defp type({_, _}), do: "pointer"

  defp c_type("*mut " <> _, _), do: "pointer"
  defp c_type("[" <> _ = array, _), do: array
  defp c_type(name, _) when name in ~w[CK_ULONG CK_BBOOL CK_BYTE], do: name

  defp c_type(name, context) do
    case context.structs[name] do
      nil -> c_type(Map.fetch!(context.aliases, name), context)
      members -> Enum.map(members, &c_type(elem(&1, 1), context))
    end
  end

  # All arguments that can be given together. Bytes of any length get one that no other has.
  defp arguments(structure) do
    for {{name, type}, index} <- Enum.with_index(structure[:arguments], 1), not excluded?(type) do
      case type do
        :bytes -> {name, :binary.copy("x", index)}
        {:bytes, options} -> {name, sample({:bytes, [index: index] ++ options})}
        type -> {name, sample(type)}
      end
    end
  end

  defp excluded?({_, options}), do: options[:not_with] != nil
  defp excluded?(_), do: false

  defp sample(type) when is_atom(type), do: sample({type, []})

  defp sample({:bytes, options}) do
    size = if options[:size], do: size(options[:size]), else: options[:index] || 1
    :binary.copy("x", size * (options[:multiple_of] || 1))
  end

  defp sample({:room, options}), do: sample({:bytes, options})
  defp sample({:templates, _}), do: [[token: true]]
  defp sample({:c_string, _}), do: "text"
  defp sample({:ulong, options}), do: options |> Keyword.get(:in, [7]) |> Enum.at(0)
  defp sample({:byte, _}), do: 7
  defp sample({:boolean, _}), do: true
  defp sample({:name, _}), do: 1
  defp sample({:hash, _}), do: :sha256
  defp sample({:choice, options}), do: options[:of] |> Keyword.keys() |> hd()
  defp sample({:flags, _}), do: []
  defp sample({:key, _}), do: {:handle, {3, 1}}
  defp sample({:version, _}), do: {3, 3}
  defp sample({:struct, options}), do: arguments(options[:of])
  defp sample({:mechanism, _}), do: :sha256
  defp sample({:tagged, options}), do: for({tag, type} <- options[:of], do: {tag, sample(type)})

  defp size(size) when is_integer(size), do: size
  defp size([size | _]), do: size
  defp size(_..last//_), do: min(last, 16)

  defp manifest, do: Path.expand("../../../Cargo.toml", __DIR__)
end
